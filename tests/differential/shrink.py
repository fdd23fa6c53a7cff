# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a case on which two sides disagree as small as it gets while they still do."""

import copy
import dataclasses

from case import ITEMS, REGISTERS, REP, SIMPLE, Case, Row

# In the order in which a reader would like to see the rest go
FIELDS = ("io_fails", "lose_at", "lie", "prepare_with", "fail_with", "batch", "fail_at", "cpl",
          "vm", "pe", "cs_l", "lma", "xmm_input", "xmm_output", "privileges", "active_vtl",
          "enabled_vtls", "pattern")
DEFAULT = Case()


def smaller(value):
    """Numbers that are simpler than this one, the simplest first"""
    if value < 0:
        yield 0
        yield -1
        return
    seen = {value}
    for candidate in (0, 1, value >> 1, value - 1):
        if 0 <= candidate < value and candidate not in seen:
            seen.add(candidate)
            yield candidate
    # Without one of its bits
    for bit in reversed(range(value.bit_length())):
        candidate = value & ~(1 << bit)
        if candidate not in seen:
            seen.add(candidate)
            yield candidate


def replaced(case, **fields):
    return dataclasses.replace(copy.deepcopy(case), **fields)


def without_one(case, name):
    """The case without one item of a list of it"""
    for i in range(len(getattr(case, name))):
        fewer = copy.deepcopy(getattr(case, name))
        del fewer[i]
        yield replaced(case, **{name: fewer})


def with_smaller_numbers(case, name):
    """The case with a smaller number somewhere in what a field holds"""
    def changed(place, value):
        new = copy.deepcopy(case)
        holder = getattr(new, name)
        if isinstance(place, tuple):
            setattr(holder[place[0]], place[1], value)
        else:
            holder[place] = value
        return new

    value = getattr(case, name)
    if name in ("rows", "pages"):
        for i, item in enumerate(value):
            for f in dataclasses.fields(item):
                for number in smaller(getattr(item, f.name)):
                    yield changed((i, f.name), number)
        return
    places = value.items() if isinstance(value, dict) else enumerate(value)
    for place, number in places:
        for candidate in smaller(number):
            yield changed(place, candidate)


def at_once(case):
    """Several numbers that only change together"""
    control = case.get("control")
    for i, row in enumerate(case.rows):
        if row.code != control & 0xffff:
            continue
        for code in (0, 1):
            new = copy.deepcopy(case)
            new.rows[i].code = code
            new.put("control", control & ~0xffff | code)
            yield new
        if row.kind == REP:
            new = copy.deepcopy(case)
            new.rows[i] = Row(row.code, SIMPLE, row.input + row.rep_in, row.rep_out, 0, 0,
                              row.variable, 0, row.privilege)
            new.put("control", control & 0xffffffff)
            yield new
    if not (case.lma and case.cs_l):
        new = replaced(case, lma=1, cs_l=1, regs=dict.fromkeys(REGISTERS, 0))
        for item in ITEMS:
            new.put(item, case.get(item))
        yield new


def candidates(case):
    for name in ("rows", "stops", "pages"):
        yield from without_one(case, name)
    yield from at_once(case)
    for name in FIELDS:
        default = getattr(DEFAULT, name)
        value = getattr(case, name)
        if value == default:
            continue
        # What an io function fails with goes when it no longer fails.
        fields = {"io_with": 0} if name == "io_fails" else {}
        yield replaced(case, **{name: default}, **fields)
        if name in ("io_fails", "cpl", "privileges", "lose_at"):
            continue
        for number in smaller(value):
            yield replaced(case, **{name: number})
    for name in ("rows", "xmm", "regs", "pages", "stops"):
        yield from with_smaller_numbers(case, name)


def measure(case):
    """Something that each step makes smaller, so that there is an end"""
    def weight(value):
        if isinstance(value, int):
            return [abs(value)]
        if isinstance(value, dict):
            return [number for inner in value.values() for number in weight(inner)]
        if isinstance(value, list):
            return [number for inner in value for number in weight(inner)]
        return [number for f in dataclasses.fields(value) for number in
                weight(getattr(value, f.name))]

    differing = sum(getattr(case, name) != getattr(DEFAULT, name) for name in FIELDS)
    numbers = weight([case.rows, case.pages, case.stops, case.regs, case.xmm])
    rest = [weight(getattr(case, name)) for name in FIELDS
            if getattr(case, name) != getattr(DEFAULT, name)]
    return (len(case.rows) + len(case.pages) + len(case.stops), differing,
            sum(number.bit_count() for number in numbers), sum(numbers), rest)


def shrink(case, disagree, rounds=400):
    """@disagree(case) -> bool. Takes the first candidate that still disagrees, until none does."""
    for _ in range(rounds):
        size = measure(case)
        for candidate in candidates(case):
            if candidate.sound() and measure(candidate) < size and disagree(candidate):
                case = candidate
                break
        else:
            break
    return case
