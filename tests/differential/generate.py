# SPDX-License-Identifier: LGPL-2.1-or-later
"""Invents cases. Most are a sound call with a few things bent, so that every rule is the one that
decides now and then; values are those at which something changes, and their neighbours."""

import calls
from case import (ALL, NEVER, PAGE, PATTERNS, READ, REGISTERS, REP, ROWS_MAX, SIMPLE, STOPS_MAX,
                  VTL_CALL, VTL_RETURN, WRITE, Case, Page, Row)

RESERVED_BITS = [*range(27, 32), *range(44, 48), *range(60, 64)]
STATUSES = [0x02, 0x03, 0x04, 0x05, 0x06, 0x0d, 0x50, 0x51, 0x78, 0x86, 0x7fff]
ERRNOS = [-5, -12, -14, -22]

# Fixed headers, elements and outputs: around register pairs, the fast limit of 112, and a page
HEADERS = [0, 0, 0, 1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 56, 96, 104, 111, 112, 113, 128, 240,
           2048, 4088, 4095, 4096]
OUTPUTS = [0, 0, 0, 0, 1, 7, 8, 8, 9, 15, 16, 16, 17, 24, 32, 64, 95, 96, 97, 111, 112, 113, 2048,
           4096]
ELEMENTS = [0, 1, 3, 4, 4, 8, 8, 8, 12, 16, 24, 32, 100, 2048]
GPNS = [0, 0x10, 0x11, 0x12, 0x13, 0xfffff, 0x100000, 0x100001, (1 << 40) - 1]


def size(value):
    return value[0] if isinstance(value, tuple) else value


# The rows of the real table, with the test's handlers
REAL_ROWS = [Row(call.code, {"simple": SIMPLE, "rep": REP}[call.kind], size(call.input),
                 call.output, call.rep_in, call.rep_out, call.variable, 0, call.privilege or 0)
             for call in calls.CALLS if call.kind != "vtl"]


class Generator:
    def __init__(self, random):
        self.random = random
        self.choice = random.choice

    def chance(self, percent):
        return self.random.random() * 100 < percent

    # ---- The table ----

    def privilege(self):
        if self.chance(70):
            return 0
        return self.choice([calls.ACCESS_VSM, calls.ACCESS_VP_REGISTERS, 1, 1 << 63,
                            calls.ACCESS_VSM | 1 << 2])

    def row(self, code):
        if self.chance(40):
            row = self.choice(REAL_ROWS)
            return Row(code, row.kind, row.input, row.output, row.rep_in, row.rep_out,
                       row.variable, int(row.kind == REP and self.chance(30)), row.privilege)
        header = self.choice(HEADERS)
        variable = int(self.chance(25))
        if self.chance(45):
            return Row(code, SIMPLE, header, self.choice(OUTPUTS), 0, 0, variable, 0,
                       self.privilege())
        rep_in, rep_out = self.choice(ELEMENTS), self.choice(ELEMENTS) if self.chance(55) else 0
        if rep_in + rep_out == 0:
            rep_in = 8
        # Headers of rep calls are whole words: elements follow them, and are read in place.
        return Row(code, REP, header // 8 * 8 if self.chance(60) else 16, 0, rep_in, rep_out,
                   variable, int(self.chance(40)), self.privilege())

    def rows(self):
        random = self.random
        codes = set()
        for _ in range(ROWS_MAX if self.chance(5) else random.randrange(1, 4)):
            codes.add(self.choice([0, 1, 0x10, 0x13, 0x50, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff,
                                   random.randrange(0x10000)]))
        codes -= {VTL_CALL, VTL_RETURN}
        return [self.row(code) for code in sorted(codes)]

    # ---- The input value ----

    @staticmethod
    def fitting_count(row, header, fast, long_mode):
        """The most elements that fit where the blocks are to be"""
        if fast:
            pairs = 7 if long_mode else 1
            count = 0
            while count < 120:
                inward = (header + (count + 1) * row.rep_in + 15) // 16
                outward = ((count + 1) * row.rep_out + 15) // 16
                if inward + outward > pairs:
                    break
                count += 1
            return count
        fits = [(PAGE - header) // row.rep_in] if row.rep_in else []
        fits += [PAGE // row.rep_out] if row.rep_out else []
        return max(0, min(fits))

    def control(self, row, fast, long_mode):
        random = self.random
        variable = count = start = 0
        if row.variable and self.chance(80):
            room = (112 if fast else PAGE) - row.input
            variable = self.choice([1, 1, 2, 3, random.randrange(8), max(0, room // 8),
                                    room // 8 + 1, 1023])
        elif self.chance(3):
            variable = self.choice([1, 2, 512, 1023])
        variable = min(max(variable, 0), 1023)
        if row.kind == REP:
            header = row.input + 8 * variable * row.variable
            fits = self.fitting_count(row, header, fast, long_mode)
            few = max(1, min(fits, 12))
            count = self.choice([1, few, few, random.randint(1, few), random.randint(1, few),
                                 random.randint(1, few), random.randint(1, few),
                                 fits if self.chance(15) else few])
            if self.chance(10):
                count = self.choice([fits + 1, fits + 1, fits + 2, 0, 4095, 2, 5])
            if self.chance(45):
                last = max(0, count - 1)
                start = self.choice([1, count // 2, last, random.randint(0, last),
                                     random.randint(0, last)])
                if self.chance(12):
                    start = self.choice([count, count + 1, 4095])
        else:
            count = self.choice([1, 4095]) if self.chance(2) else 0
            start = self.choice([1, 4095]) if self.chance(2) else 0
        value = (row.code | fast << 16 | variable << 17 | min(count, 4095) << 32 |
                 min(start, 4095) << 48)
        if self.chance(4):
            value |= 1 << self.choice(RESERVED_BITS)
        return value

    # ---- Memory ----

    def pages(self):
        gpns = set(self.random.sample(GPNS, 2))
        # Neighbours: what straddles is not refused for want of memory
        gpns |= {0x10, 0x11} if self.chance(60) else set(self.random.sample(GPNS, 2))
        pages = []
        for gpn in sorted(gpns):
            page = Page(gpn)
            if self.chance(8):
                page.vtl0 = self.choice([0, READ, WRITE])
            if self.chance(8):
                page.vtl1 = self.choice([0, READ, WRITE])
            if self.chance(5):
                page.overlays = self.choice([1, 2, 3])
            pages.append(page)
        return pages

    def place(self, pages, length):
        """A GPA for a block"""
        random = self.random
        base = self.choice(pages).gpn * PAGE
        if self.chance(3):
            base = self.choice([1 << 52, (1 << 52) - PAGE, 1 << 63, 1 << 32, 0,
                                random.getrandbits(52) & ~(PAGE - 1)])
        rounded = (length + 7) & ~7
        room = max(0, PAGE - rounded)
        gpa = base + self.choice([0, 8, room, room, room // 16 * 8,
                                  random.randrange(0, room + 1) & ~7])
        if self.chance(7):
            gpa = base + PAGE - length + self.choice([1, 2, 4, 8, 16, max(8, length // 2)])
        if self.chance(4):
            gpa += random.randrange(1, 8)
        if self.chance(1):
            gpa = self.choice([ALL, ALL - 7, ALL - PAGE + 1, (1 << 52) - 8, (1 << 52) - 1, 0])
        return gpa & ALL

    def places(self, case, row, control):
        count, variable = control >> 32 & 0xfff, control >> 17 & 0x3ff
        inward = row.input + 8 * variable * row.variable
        outward = row.output
        if row.kind == REP:
            inward += count * row.rep_in
            outward += count * row.rep_out
        gpa_in = self.place(case.pages, inward)
        gpa_out = self.place(case.pages, outward)
        if inward and outward and self.chance(15):
            # Blocks that touch, overlap by a word or less, or hold one another
            gpa_out = (gpa_in + self.choice([0, inward, inward - 8, inward - 1, (inward + 7) & ~7,
                                             -outward, 8 - outward, 1 - outward,
                                             -((outward + 7) & ~7), 8])) & ALL
        return gpa_in, gpa_out

    # ---- The caller ----

    def value(self):
        """What a register may hold that nobody set"""
        random = self.random
        return self.choice([0, 1, ALL, 1 << 63, 1 << 32, 0xffffffff, random.getrandbits(64),
                            random.getrandbits(64), random.getrandbits(64)])

    def vtl_call(self, case):
        code = self.choice([VTL_CALL, VTL_RETURN])
        control = code
        if self.chance(25):
            control |= self.choice([1 << 16, 1 << 17, 1 << 32, 1 << 48, 1 << 31, 1 << 63,
                                    1 << self.random.randrange(16, 64)])
        control_input = self.choice([0, 0, 0, 1, 1, 2, 3, 1 << 31, 1 << 32, 1 << 63, ALL])
        case.put("control", control)
        if case.lma and case.cs_l:
            case.regs["rax"] = control_input
        else:
            case.regs["rcx"] = control_input
        if self.chance(60):
            case.active_vtl = int(code == VTL_RETURN)
            case.enabled_vtls = 3
        if self.chance(5):
            case.privileges = self.choice([0, ALL ^ calls.ACCESS_VSM, calls.ACCESS_VSM])

    def call(self, case):
        row = self.choice(case.rows)
        long_mode = case.lma and case.cs_l
        # Little of what is too large anyway, for then no other rule has its turn
        pairs = (row.input + 15) // 16 + (row.output + 15) // 16
        fast = int(self.chance(50 if pairs <= (7 if long_mode else 1) else 8))
        control = self.control(row, fast, long_mode)
        if self.chance(2):
            # A neighbour of a code that is there, or anything
            control = control & ~0xffff | self.choice([row.code ^ 1, row.code ^ 0x8000,
                                                       self.random.getrandbits(16)])
        case.put("control", control)
        if not fast:
            gpa_in, gpa_out = self.places(case, row, control)
            case.put("input", gpa_in)
            case.put("output", gpa_out)
        if self.chance(6):
            case.xmm_input = 0
        if self.chance(6):
            case.xmm_output = 0
        if self.chance(15):
            case.privileges = self.choice([0, row.privilege, ALL ^ row.privilege,
                                           row.privilege & (row.privilege - 1),
                                           self.random.getrandbits(64)])
        self.handlers(case, row, control)

    def handlers(self, case, row, control):
        random = self.random
        count, start = control >> 32 & 0xfff, control >> 48 & 0xfff

        def some():
            return self.choice([start, start + 1, start + 2, max(0, count - 1),
                                random.randint(0, count)])

        if self.chance(20):
            case.fail_at = some()
            case.fail_with = self.choice(ERRNOS) if self.chance(20) else self.choice(STATUSES)
        if row.kind == REP and self.chance(35):
            case.stops = sorted({some() for _ in range(random.randint(1, STOPS_MAX))})
        if row.prepare:
            case.batch = self.choice([0, 1, 2, count, max(0, count - start), random.randrange(8)])
            if self.chance(15):
                case.prepare_with = self.choice(ERRNOS) if self.chance(30) else \
                    self.choice(STATUSES)
            if self.chance(6):
                case.lie = self.choice([-2, -1, 1, 2, 4095, -4095, 32767, -32768])
        if self.chance(4):
            case.lose_at = some()
        if self.chance(4):
            case.io_fails = random.randrange(1, 6)
            case.io_with = self.choice(ERRNOS)

    def case(self):
        case = Case()
        if self.chance(60):
            case.lma, case.cs_l = 1, 1
        else:
            case.lma, case.cs_l = self.choice([(1, 0), (0, 0), (1, 0), (0, 1)])
        if self.chance(2):
            case.cpl = self.choice([1, 2, 3])
        if self.chance(1):
            case.pe = 0
        if self.chance(1):
            case.vm = 1
        case.active_vtl = int(self.chance(30))
        case.enabled_vtls = 3 if case.active_vtl or self.chance(60) else 1
        case.regs = {name: self.value() for name in REGISTERS}
        case.xmm = [self.random.getrandbits(128) for _ in range(6)]
        case.pattern = self.random.randrange(1, PATTERNS)
        case.rows = self.rows()
        case.pages = self.pages()
        case.lose_at = NEVER
        if self.chance(10) or not case.rows:
            self.vtl_call(case)
        elif self.chance(98):
            self.call(case)
        return case
