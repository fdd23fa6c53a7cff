# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hypercall engine against a second implementation of the ABI's rules.

A case on which the two disagree is shrunk, shown, and kept in tests/differential/cases, whose files
come first the next time; in builddir/tests/differential/found when the sources cannot be written.

usage: test_differential.py [TEST]...
       test_differential.py --show FILE [MUTANT]   both outcomes of a case, side by side

Environment: VTLD_DIFFERENTIAL_SECONDS (20) for random cases, VTLD_DIFFERENTIAL_SEED (a random one),
VTLD_DIFFERENTIAL_DRIVER (the driver in builddir).
"""

import os
import pathlib
import random
import sys
import time
import zlib
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import abi  # noqa: E402
import calls  # noqa: E402
import tap  # noqa: E402
from case import from_json, to_json  # noqa: E402
from engine import DriverDied, Engine, output_of, program  # noqa: E402
from generate import Generator  # noqa: E402
from guest import model  # noqa: E402
from outcome import ANSWERS, Died, Outcome, side_by_side  # noqa: E402
from shrink import shrink  # noqa: E402

BATCH = 512
SECONDS = float(os.environ.get("VTLD_DIFFERENTIAL_SECONDS") or 20)
SEED = int(os.environ.get("VTLD_DIFFERENTIAL_SEED") or random.SystemRandom().randrange(1 << 32))
DRIVER = os.environ.get("VTLD_DIFFERENTIAL_DRIVER") or program("driver")
MUTANTS = program("driver-mutants")
SAVED = HERE / "cases"
FOUND = pathlib.Path(os.environ["builddir"]) / "tests/differential/found"

# The same cases every time, so that every mutant is found every time
MUTANT_SEED, MUTANT_BATCHES = 1, 40
# However little time there is: enough that each rule decides over some of them
BATCHES_MIN = 20


def batch_of(seed):
    generator = Generator(random.Random(seed))
    return [generator.case() for _ in range(BATCH)]


def differ(engine, case):
    return engine.run_one(case.pack()) != model(case)


# ---- What is done about a disagreement ----

def save(case, why):
    text = to_json(case, why)
    name = "found-%08x.json" % zlib.crc32(text.encode())
    for directory in (SAVED, FOUND):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return directory / name
    return "nowhere: no directory can be written"


def describe(engine, case):
    lines = to_json(case).rstrip().split("\n")
    lines += side_by_side(case, model(case), engine.run_one(case.pack()))
    return "\n".join(lines)


def disagreed(engine, case, origin):
    """Fails, with all that there is to know."""
    outcome = engine.run_one(case.pack())
    small = case
    if not (isinstance(outcome, Died) and outcome.hung):  # which takes too long to do it often
        small = shrink(case, lambda candidate: differ(engine, candidate))
    path = save(small, "found by " + origin)
    tap.diag("they disagree on a case of %s" % origin)
    tap.diag("kept as %s" % path)
    tap.diag(describe(engine, small))
    raise AssertionError("the engine and vsm.md disagree")


# ---- Tests ----

def saved_cases():
    directories = (SAVED, FOUND)
    paths = {path.resolve() for directory in directories for path in directory.glob("*.json")}
    return sorted(paths)


def outcome_in_short(case, packed):
    """What the files in cases/ can expect: of the last turn, and which registers are not as at
    first"""
    outcome = Outcome(packed)
    turn = outcome.turns[-1]
    short = {"answer": ANSWERS.get(turn.answer, "errno"), "turns": len(outcome.turns)}
    if turn.answer == abi.DONE:
        result = turn.result(case.lma and case.cs_l)
        short.update(status=result & 0xffff, reps=result >> 32)
    xmm = [int.from_bytes(turn.xmm[i:i + 16], "little") for i in range(0, 96, 16)]
    short["changed"] = sorted([name for name in case.regs if turn.regs[name] != case.regs[name]] +
                              ["xmm%d" % i for i in range(6) if xmm[i] != case.xmm[i]])
    short["memory"] = [number for page, offset, data in turn.changes
                       for number in (page, offset, len(data))]
    return short


def test_cases_kept():
    """Those that were found once, and those that spell vsm.md out"""
    paths = saved_cases()
    assert paths, "no case in %s" % SAVED
    wrong = []
    with Engine(DRIVER) as engine:
        for path in paths:
            case, why, expect = from_json(path.read_text(encoding="utf-8"))
            ours, theirs = model(case), engine.run_one(case.pack())
            if ours != theirs:
                wrong.append("%s (%s)" % (path.name, why))
                tap.diag(path)
                tap.diag(describe(engine, case))
            # Numbers that were read out of vsm.md by hand keep the model itself in place.
            short = outcome_in_short(case, ours)
            for key, value in expect.items():
                if short.get(key) != value:
                    wrong.append("%s (%s)" % (path.name, why))
                    tap.diag("%s: the model says %s is %s, expected is %s" %
                             (path.name, key, short.get(key), value))
    tap.diag("%d cases kept" % len(paths))
    assert not wrong, "\n".join(wrong)


def test_table_of_calls():
    """hv_calls row by row against vsm.md section 3"""
    rows = calls.parse_table(output_of(DRIVER, "--table"))
    wrong, missing = calls.compare(rows)
    tap.diag("%d calls; not offered: %s" % (len(rows), ", ".join(missing) or "none"))
    assert rows and not wrong, "\n".join(wrong)


def test_table_comparison_notices():
    """Each number of each row, if it were another one"""
    rows = calls.parse_table(output_of(DRIVER, "--table"))
    for i, row in enumerate(rows):
        for key in ("code", "input", "output", "rep_in", "rep_out", "variable", "privilege"):
            other = calls.Call(**vars(row))
            setattr(other, key, getattr(row, key) ^ 2)
            changed = rows[:i] + [other] + rows[i + 1:]
            named = [call for call in calls.CALLS if call.code == row.code]
            if key == "privilege" and named[0].privilege is None:
                setattr(other, key, 1 << 44)  # no call is the root partition's alone
            assert calls.compare(changed)[0], "%s: another %s goes unnoticed" % (row.name, key)


def test_shrinking():
    """A mutant's disagreement among the noise of a random case comes down to what it takes."""
    with Engine(MUTANTS, "--mutant=alignment-is-invalid-input") as engine:
        case = next(case for seed in range(MUTANT_SEED, MUTANT_SEED + 99)
                    for case in batch_of(seed) if differ(engine, case))
        small = shrink(case, lambda candidate: differ(engine, candidate))
        assert differ(engine, small) and small.sound()
        again = from_json(to_json(small))[0]
        assert again == small and again.pack() == small.pack()
        # One row, no memory, hardly a register
        assert len(small.rows) == 1 and not small.pages and not small.stops, to_json(small)
        assert sum(value != 0 for value in small.regs.values()) <= 2, to_json(small)
        assert not any(small.xmm), to_json(small)


class Mutants:
    """The fixed cases, with what the model says of them: made once for all mutants"""

    def __init__(self):
        self.batches = None

    def noticed(self, name):
        """How many of the cases a mutant was noticed by"""
        if self.batches is None:
            self.batches = []
            for seed in range(MUTANT_SEED, MUTANT_SEED + MUTANT_BATCHES):
                cases = batch_of(seed)
                self.batches.append(([case.pack() for case in cases], [model(c) for c in cases]))
        count = 0
        with Engine(MUTANTS, "--mutant=" + name) as engine:
            for packed, ours in self.batches:
                count += sum(a != b for a, b in zip(ours, engine.run(packed), strict=True))
        return count


MUTANT_TESTS = Mutants()


def mutant_test(name):
    def test():
        count = MUTANT_TESTS.noticed(name)
        tap.diag("by %d of %d cases" % (count, MUTANT_BATCHES * BATCH))
        assert count > 0, "the test does not notice an engine with " + name
    return test


def test_no_mutant():
    """The mutants' driver without a mutant breaks nothing: what it notices are the mutations."""
    assert MUTANT_TESTS.noticed("none") == 0


for mutant in output_of(MUTANTS, "--mutants").split():
    globals()["test_notices_" + mutant.replace("-", "_")] = mutant_test(mutant)


def kinds_of(case, packed):
    """What a case was good for"""
    outcome = Outcome(packed)
    turn = outcome.turns[-1]
    yield ANSWERS.get(turn.answer, "host failure")
    served = turn.handled or turn.prepared
    yield "served" if served else "refused"
    if turn.answer == abi.DONE:
        status = turn.result(case.lma and case.cs_l) & 0xffff
        if not served:
            yield "refused with %d" % status
        elif status:
            yield "failed"
            if turn.result(case.lma and case.cs_l) >> 32:
                yield "failed in part"
        else:
            yield "succeeded"
    if len(outcome.turns) > 1:
        yield "continued"
    for seen in outcome.turns:
        if seen.changes:
            yield "memory output"
        if seen.xmm != outcome.turns[0].xmm or seen.xmm != Outcome.before(case):
            yield "XMM output"
        if seen.prepared:
            yield "prepared"
    yield "64 bits" if case.lma and case.cs_l else "32 bits"


KINDS = ("done", "ud", "switched", "host failure", "served", "refused with 2", "refused with 3",
         "refused with 4", "refused with 6", "failed", "failed in part", "succeeded", "continued",
         "memory output", "XMM output", "prepared", "64 bits", "32 bits")


def find_dead(engine, cases):
    """The case over which the driver dies"""
    for case in cases:
        if isinstance(engine.run_one(case.pack()), Died):
            return case
    return None


def outcomes_of(engine, cases):
    """Of the model, and of the driver or Died"""
    try:
        engine.send([case.pack() for case in cases])
        ours = [model(case) for case in cases]
        return ours, engine.outcomes()
    except DriverDied as death:
        return None, Died(str(death), death.hung)


def test_random_cases():
    tally = Counter()
    seed = SEED
    end = time.monotonic() + SECONDS
    tap.diag("VTLD_DIFFERENTIAL_SEED=%d" % SEED)
    with Engine(DRIVER) as engine:
        while time.monotonic() < end or seed - SEED < BATCHES_MIN:
            cases = batch_of(seed)
            origin = "VTLD_DIFFERENTIAL_SEED=%d" % seed
            ours, theirs = outcomes_of(engine, cases)
            if isinstance(theirs, Died):
                case = find_dead(engine, cases)
                assert case, "%s: over no single case: %s" % (origin, theirs.how)
                disagreed(engine, case, origin)
            for case, one, other in zip(cases, ours, theirs, strict=True):
                if one != other:
                    disagreed(engine, case, origin)
            if seed - SEED < BATCHES_MIN:
                for case, one in zip(cases, ours):
                    tally.update(set(kinds_of(case, one)))
            seed += 1
    tap.diag("%d cases" % ((seed - SEED) * BATCH))
    seen = ", ".join("%s %d" % (kind, tally[kind]) for kind in KINDS)
    tap.diag("of the first %d: %s" % (BATCHES_MIN * BATCH, seen))
    # So that the generator cannot become blind to something unnoticed
    assert all(tally[kind] >= 20 for kind in KINDS), "hardly tried"


def show(path, mutant=None):
    case, why, expect = from_json(pathlib.Path(path).read_text(encoding="utf-8"))
    with Engine(*[MUTANTS, "--mutant=" + mutant] if mutant else [DRIVER]) as engine:
        print(why, expect or "")
        print(describe(engine, case))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--show"]:
        show(*sys.argv[2:])
    else:
        tap.main(globals())
