# SPDX-License-Identifier: LGPL-2.1-or-later
"""A case of the differential test: everything that a hypercall can depend on.

It has two forms: the binary one that the driver reads (tests/differential/caller.h), and JSON that
leaves out what has its default, for the files in tests/differential/cases.
"""

import dataclasses
import json
import struct
from dataclasses import dataclass, field

REGISTERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8")
XMM_REGISTERS = 6
PAGE = 4096
PATTERNS = 8
ROWS_MAX = 14  # the driver's 16 less the VTL calls, which every table has
PAGES_MAX = 4
STOPS_MAX = 8
NEVER = 0xffff
ALL = (1 << 64) - 1

SIMPLE, REP, VTL = range(3)
READ, WRITE = 1, 2

VTL_CALL, VTL_RETURN = 0x11, 0x12
PRIVILEGE_VSM = 1 << 48

# Which of the caller's functions fails, in the order of the driver's enum case_io
IO = ("", "read", "write", "probe", "get_xmm", "set_xmm")

# vsm.md 2.1: the register of a 64-bit caller, and the two halves of a 32-bit one
ITEMS = {"control": ("rcx", "rdx", "rax"), "input": ("rdx", "rbx", "rcx"),
         "output": ("r8", "rdi", "rsi")}

HEAD = struct.Struct("<4BQ7Q96s6BhHhHhhH")
ROW = struct.Struct("<H3B4HQ")
PAGE_ROW = struct.Struct("<Q3B")

# Numbers of JSON files that read better in hexadecimal
HEXADECIMAL = {"privileges", "privilege", "code", "gpn", "xmm"} | set(REGISTERS)


@dataclass(slots=True)
class Row:
    """A call of the table: struct hv_call."""
    code: int
    kind: int = SIMPLE
    input: int = 0
    output: int = 0
    rep_in: int = 0
    rep_out: int = 0
    variable: int = 0
    prepare: int = 0
    privilege: int = 0


@dataclass(slots=True)
class Page:
    """A page of guest memory: what VTL0 and VTL1 may do with it, and whose overlays lie on it."""
    gpn: int
    vtl0: int = READ | WRITE
    vtl1: int = READ | WRITE
    overlays: int = 0


@dataclass(slots=True)
class Case:
    # The processor
    lma: int = 1
    cs_l: int = 1
    pe: int = 1
    vm: int = 0
    cpl: int = 0
    active_vtl: int = 0
    enabled_vtls: int = 1
    regs: dict = field(default_factory=lambda: dict.fromkeys(REGISTERS, 0))
    xmm: list = field(default_factory=lambda: [0] * XMM_REGISTERS)
    # What the partition may do, and is told in CPUID
    privileges: int = ALL
    xmm_input: int = 1
    xmm_output: int = 1
    # Memory; its contents are one of the patterns that both sides make
    pages: list = field(default_factory=list)
    pattern: int = 0
    # The calls that are offered, apart from VTL call and return, which always are
    rows: list = field(default_factory=list)
    # What handlers do: see struct case_head
    fail_at: int = 0
    fail_with: int = 0
    batch: int = 0
    prepare_with: int = 0
    lie: int = 0
    lose_at: int = NEVER
    # Elements before which the hypervisor stops and lets the guest repeat the instruction
    stops: list = field(default_factory=list)
    turns: int = STOPS_MAX + 2
    # A failure of the host
    io_fails: int = 0
    io_with: int = 0

    def get(self, item):
        long, high, low = ITEMS[item]
        if self.lma and self.cs_l:
            return self.regs[long]
        return (self.regs[high] << 32 | self.regs[low] & 0xffffffff) & ALL

    def put(self, item, value):
        """Other halves of registers stay as they are."""
        long, high, low = ITEMS[item]
        if self.lma and self.cs_l:
            self.regs[long] = value
            return
        self.regs[high] = self.regs[high] >> 32 << 32 | value >> 32
        self.regs[low] = self.regs[low] >> 32 << 32 | value & 0xffffffff

    def table(self):
        rows = self.rows + [Row(VTL_CALL, VTL, privilege=PRIVILEGE_VSM),
                            Row(VTL_RETURN, VTL, privilege=PRIVILEGE_VSM)]
        return sorted(rows, key=lambda row: row.code)

    def pack(self):
        mode = (self.lma | self.cs_l << 1 | self.pe << 2 | self.vm << 3 | self.xmm_input << 4 |
                self.xmm_output << 5)
        rows = self.table()
        xmm = b"".join(register.to_bytes(16, "little") for register in self.xmm)
        parts = [HEAD.pack(mode, self.cpl, self.active_vtl, self.enabled_vtls, self.privileges,
                           *self.regs.values(), xmm, self.pattern, self.turns, len(rows),
                           len(self.pages), len(self.stops), self.io_fails, self.io_with,
                           self.fail_at, self.fail_with, self.batch, self.prepare_with, self.lie,
                           self.lose_at)]
        parts += [ROW.pack(row.code, row.kind, row.variable, row.prepare, row.input, row.output,
                           row.rep_in, row.rep_out, row.privilege) for row in rows]
        parts += [PAGE_ROW.pack(page.gpn, page.vtl0, page.vtl1, page.overlays)
                  for page in self.pages]
        parts.append(struct.pack("<%dH" % len(self.stops), *self.stops))
        return b"".join(parts)

    def sound(self):
        """Whether the table is one that the engine may be given (hv_table_sound() of the unit
        tests, and struct hv_call), and the rest one that the driver takes."""
        codes = [row.code for row in self.table()]
        if len(set(codes)) != len(codes) or len(self.rows) > ROWS_MAX:
            return False
        for row in self.rows:
            if row.input > PAGE or row.output > PAGE or row.kind not in (SIMPLE, REP):
                return False
            if row.kind == SIMPLE and (row.rep_in or row.rep_out or row.prepare):
                return False
            if row.kind == REP and (row.output or row.input % 8 or not row.rep_in + row.rep_out):
                return False
        if len(self.pages) > PAGES_MAX or len({page.gpn for page in self.pages}) < len(self.pages):
            return False
        if self.active_vtl > 1 or not 0 < self.turns < 256 or len(self.stops) > STOPS_MAX:
            return False
        # A failure of the host is a negative errno, and no failure is none.
        return (self.io_with < 0) == (self.io_fails != 0)


# ---- JSON ----

def _written(name, value):
    if isinstance(value, dict):
        return {key: _written(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_written(name, inner) for inner in value]
    return hex(value) if name in HEXADECIMAL else value


def _read(value):
    if isinstance(value, dict):
        return {key: _read(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_read(inner) for inner in value]
    return int(value, 0) if isinstance(value, str) else value


def _sparse(thing, default):
    """The fields of a dataclass that are not what they are in another one"""
    fields = {}
    for f in dataclasses.fields(thing):
        value = getattr(thing, f.name)
        if default is not None and value == getattr(default, f.name):
            continue
        fields[f.name] = value
    return fields


def to_json(case, why="", expect=None):
    fields = _sparse(case, Case())
    if "regs" in fields:
        fields["regs"] = {name: value for name, value in case.regs.items() if value}
    if "rows" in fields:
        fields["rows"] = [{"code": row.code, **_sparse(row, Row(row.code))} for row in case.rows]
    if "pages" in fields:
        fields["pages"] = [{"gpn": page.gpn, **_sparse(page, Page(page.gpn))}
                           for page in case.pages]
    fields = _written("", fields)
    document = {"why": why, **fields}
    if expect:
        document["expect"] = expect
    # A line for each field, and for each row and page
    lines = []
    for name, value in document.items():
        text = json.dumps(value)
        if name in ("rows", "pages"):
            text = "[\n    %s\n  ]" % ",\n    ".join(json.dumps(item) for item in value)
        lines.append("  %s: %s" % (json.dumps(name), text))
    return "{\n%s\n}\n" % ",\n".join(lines)


def from_json(text):
    """The case in a file, why it is there, and what the last turn is to come to ({}: not said)"""
    document = json.loads(text)
    why = document.pop("why", "")
    expect = document.pop("expect", {})
    fields = _read(document)
    fields["regs"] = {**dict.fromkeys(REGISTERS, 0), **fields.get("regs", {})}
    fields["rows"] = [Row(**row) for row in fields.get("rows", [])]
    fields["pages"] = [Page(**page) for page in fields.get("pages", [])]
    case = Case(**fields)
    if list(case.regs) != list(REGISTERS) or not case.sound():
        raise ValueError("not a sound case")
    return case, why, expect
