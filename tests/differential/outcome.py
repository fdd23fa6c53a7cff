# SPDX-License-Identifier: LGPL-2.1-or-later
"""Outcomes for people: field by field, and two of them side by side."""

import abi
from case import REGISTERS
from guest import CHANGE, OUTCOME, TURN

ANSWERS = {abi.DONE: "done", abi.RETRY: "retry", abi.UD: "ud", abi.SWITCHED: "switched"}

# enum promise of caller.h
PROMISES = ("kept", "block", "one read", "probe", "one write", "xmm", "yield", "context", "header",
            "element", "zeroed", "scratch")


class Died:
    """Instead of an outcome: the driver came to an end over the case."""

    def __init__(self, how, hung):
        self.how = how
        self.hung = hung


class Turn:
    def __init__(self, data, at):
        (self.answer, *registers, self.xmm, self.switches, self.is_return, self.switch_input,
         self.prepared, self.handled, self.trace, changes) = TURN.unpack_from(data, at)
        at += TURN.size
        self.regs = dict(zip(REGISTERS, registers))
        self.changes = []
        for _ in range(changes):
            page, offset, length = CHANGE.unpack_from(data, at)
            at += CHANGE.size
            self.changes.append((page, offset, data[at:at + length]))
            at += length
        self.end = at

    def result(self, long_mode):
        if long_mode:
            return self.regs["rax"]
        return (self.regs["rdx"] << 32 | self.regs["rax"] & 0xffffffff) & (1 << 64) - 1

    def fields(self, long_mode):
        yield "answer", ANSWERS.get(self.answer, "errno %d" % -self.answer)
        if self.answer == abi.DONE:
            result = self.result(long_mode)
            yield "status", "%#06x" % (result & 0xffff)
            yield "reps completed", "%d" % (result >> 32 & 0xfff)
        for name, value in self.regs.items():
            yield name, "%#018x" % value
        for i in range(6):
            yield "xmm%d" % i, "%#034x" % int.from_bytes(self.xmm[16 * i:16 * i + 16], "little")
        if self.switches:
            yield "VTL switches", "%d" % self.switches
            yield "VTL switch", "return" if self.is_return else "call"
            yield "its control input", "%#x" % self.switch_input
        yield "prepare() calls", "%d" % self.prepared
        yield "handler calls", "%d" % self.handled
        yield "handlers were given", "%#010x" % self.trace
        for page, offset, data in self.changes:
            yield "page %d from %#05x" % (page, offset), "%d bytes %s" % (len(data), data.hex())


class Outcome:
    def __init__(self, data):
        count, self.broken, self.hot, self.hot_input = OUTCOME.unpack_from(data)
        at = OUTCOME.size
        self.turns = []
        for _ in range(count):
            self.turns.append(Turn(data, at))
            at = self.turns[-1].end
        if at != len(data):
            raise ValueError("an outcome of %d bytes has %d" % (at, len(data)))

    @staticmethod
    def before(case):
        """XMM registers as a turn has them"""
        return b"".join(x.to_bytes(16, "little") for x in case.xmm)

    def fields(self, long_mode):
        yield "promises", PROMISES[self.broken]
        yield "hot path", ("refuses", "VTL call", "VTL return", "both")[self.hot]
        yield "hot path input", "%#x" % self.hot_input
        for number, turn in enumerate(self.turns, 1):
            for name, value in turn.fields(long_mode):
                yield "%d: %s" % (number, name), value


def short(text, width=40):
    return text if len(text) <= width else text[:width - 1] + "…"


def side_by_side(case, ours, theirs):
    """The lines of a table of two outcomes in the driver's form; what differs is marked."""
    long_mode = case.lma and case.cs_l
    left = dict(Outcome(ours).fields(long_mode))
    if isinstance(theirs, Died):
        return ["the driver %s: %s" % ("hung" if theirs.hung else "died", theirs.how)] + \
            ["  %-24s %s" % (name, short(value)) for name, value in left.items()
             if name.count("xmm") == 0 or value.strip("0x")]
    right = dict(Outcome(theirs).fields(long_mode))
    lines = ["  %-24s %-40s %s" % ("", "model", "engine")]
    turns = min(len(Outcome(ours).turns), len(Outcome(theirs).turns))
    for name in list(left) + [name for name in right if name not in left]:
        number, colon, what = name.partition(": ")
        if colon and int(number) > turns and what != "answer":
            continue  # of a turn that only one of them took
        one, other = left.get(name, "-"), right.get(name, "-")
        if one == other:
            if "xmm" in name and not one.strip("0x"):
                continue
            lines.append("  %-24s %s" % (name, short(one)))
            continue
        if len(one) > 40 or len(other) > 40:
            # Memory: from the first byte that differs on
            same = next((i for i, pair in enumerate(zip(one, other)) if len(set(pair)) > 1),
                        min(len(one), len(other)))
            skip = max(0, same - 8)
            one, other = ["…" * (skip > 0) + text[skip:] for text in (one, other)]
        lines.append("* %-24s %-40s %s" % (name, short(one), short(other)))
    return lines
