# SPDX-License-Identifier: LGPL-2.1-or-later
"""The caller of a case, as tests/differential/caller.c is it for the engine: registers, memory, and
handlers whose outputs depend on everything that they are given."""

import struct
from zlib import crc32

import abi
from case import IO, NEVER, PAGE, PAGES_MAX, PATTERNS, WRITE

TURN = struct.Struct("<i7Q96sBBQHHIB")
CHANGE = struct.Struct("<BHH")
OUTCOME = struct.Struct("<3BQ")

GOLDEN = 0x9e3779b1


def make_patterns():
    patterns = [bytes(PAGES_MAX * PAGE)]
    for number in range(1, PATTERNS):
        word = number
        words = []
        for _ in range(PAGES_MAX * PAGE // 8):
            word = (word * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            words.append(word ^ word >> 29)
        patterns.append(struct.pack("<%dQ" % len(words), *words))
    return patterns


PATTERN = make_patterns()


def filled(length, word):
    """A handler's output"""
    words = ((word + i * GOLDEN) & 0xffffffff for i in range((length + 3) // 4))
    return b"".join(word.to_bytes(4, "little") for word in words)[:length]


class Contents:
    """A page of memory"""

    def __init__(self, index, page, data):
        self.index = index
        self.page = page
        self.data = bytearray(data)


class Guest:
    """The state and the services that abi.py works on."""

    def __init__(self, case):
        self.case = case
        self.lma, self.cs_l, self.pe, self.vm = case.lma, case.cs_l, case.pe, case.vm
        self.cpl = case.cpl
        self.active_vtl, self.enabled_vtls = case.active_vtl, case.enabled_vtls
        self.privileges = case.privileges
        self.xmm_input, self.xmm_output = case.xmm_input, case.xmm_output
        self.regs = dict(case.regs)
        self.xmm = bytearray(b"".join(x.to_bytes(16, "little") for x in case.xmm))
        pattern = PATTERN[case.pattern]
        self.pages = {page.gpn: Contents(i, page, pattern[i * PAGE:(i + 1) * PAGE])
                      for i, page in enumerate(case.pages)}
        self.lost = False
        self.begin_turn()

    def begin_turn(self):
        self.trace = 0
        self.prepared = self.handled = 0
        self.switches = self.is_return = self.switch_input = 0
        self.changes = []
        self.header_crc = 0

    # ---- What the hypervisor asks of its surroundings ----

    def host(self, io):
        if IO[self.case.io_fails] == io:
            raise abi.HostFailure(-self.case.io_with)

    def page(self, gpn):
        return self.pages.get(gpn)

    def overlay(self, contents, vtl):
        return contents.page.overlays >> vtl & 1

    def rights(self, contents, vtl):
        rights = contents.page.vtl1 if vtl else contents.page.vtl0
        return rights & ~WRITE if self.lost else rights

    def store(self, contents, offset, data):
        old = bytes(contents.data[offset:offset + len(data)])
        contents.data[offset:offset + len(data)] = data
        if old == data:
            return
        first = next(i for i in range(len(data)) if old[i] != data[i])
        end = next(i for i in range(len(data), 0, -1) if old[i - 1] != data[i - 1])
        self.changes.append((contents.index, offset + first, data[first:end]))

    def switch_asked(self, is_return, control_input):
        self.switches += 1
        self.is_return = int(is_return)
        self.switch_input = control_input

    # ---- Handlers ----

    def call_begins(self, call, control, header, long_mode):
        self.header_crc = crc32(header)
        self.trace = crc32(header, crc32(struct.pack("<5H", call.code, control.variable_header if
                                                     call.variable else 0, control.count,
                                                     control.start, long_mode)))
        self.start, self.count = control.start, control.count

    def _note(self, what, index, element):
        self.trace = crc32(element, crc32(struct.pack("<2H", ord(what), index), self.trace))

    def _lose(self, index):
        if self.case.lose_at != NEVER and self.case.lose_at == index:
            self.lost = True

    def serve_simple(self, call):
        self._note("S", 0, b"")
        self.handled += 1
        self._lose(0)
        return self.case.fail_with, filled(call.output, self.header_crc)

    def _serve(self, call, elements, index, outputs, what):
        element = elements[index * call.rep_in:(index + 1) * call.rep_in]
        self._note(what, index, element)
        self._lose(index)
        outputs[index] = filled(call.rep_out, crc32(element, self.header_crc ^ index))
        fails = self.case.fail_with and self.case.fail_at == index
        return self.case.fail_with if fails else 0

    def serve_element(self, call, elements, index, outputs):
        self.handled += 1
        return self._serve(call, elements, index, outputs, "E")

    def prepare(self, call, elements, outputs):
        """Serves a batch; returns the status and the index up to which it says that all is done."""
        self._note("P", self.start, b"")
        self.prepared += 1
        done = self.start
        status = 0
        while status == 0 and done < min(self.start + self.case.batch, self.count):
            status = self._serve(call, elements, done, outputs, "B")
            if status == 0:
                done += 1
        done = (done + self.case.lie) & 0xffff
        for index in range(self.start, min(done, self.count)):
            # Said to be done, and never touched
            outputs.setdefault(index, bytes(call.rep_out))
        return status or self.case.prepare_with, done

    def stops_before(self, index):
        return index in self.case.stops

    # ---- Outcome ----

    def pack_turn(self, answer):
        parts = [TURN.pack(answer, *self.regs.values(), bytes(self.xmm), self.switches,
                           self.is_return, self.switch_input, self.prepared, self.handled,
                           self.trace, len(self.changes))]
        for page, offset, data in self.changes:
            parts += [CHANGE.pack(page, offset, len(data)), data]
        return b"".join(parts)


def model(case):
    """The outcome of a case by the model, in the driver's form"""
    guest = Guest(case)
    table = {row.code: row for row in case.table()}
    call, back, control_input = abi.hot_path(guest)
    turns = []
    while len(turns) < case.turns:
        guest.begin_turn()
        answer = abi.hypercall(guest, table)
        turns.append(guest.pack_turn(answer))
        if answer != abi.RETRY:
            break
    return OUTCOME.pack(len(turns), 0, call | back << 1, control_input) + b"".join(turns)
