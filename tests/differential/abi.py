# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hypercall ABI a second time: slow and obvious, rule by rule.

Written from vsm.md, sections 2 and 6.1, whose numbers the comments give. What of it the hypervisor
must leave to others (memory, handlers, the switch itself) is asked of a guest (guest.py).

Where vsm.md leaves something open, it is read like this:

a. "Uses XMM" (2.6, step 5) is said of the blocks that the call has: a variable header counts for
   calls that take one, repetitions count for rep calls. Others are errors of steps 6 and 7, which
   come later.
b. A block that straddles is INVALID_ALIGNMENT, as the TLFS has it (2.6 step 8, 11.10: either).
   The statuses of step 8 are looked for in the order of its sentence, each on both blocks.
c. Blocks that overlap (2.4) are INVALID_HYPERCALL_INPUT, like others that cannot be accessed.
d. "Reps completed" (2.3) is 0 as long as the control value itself was not found valid (up to
   step 7): no start can be believed then. From step 8 on it is absolute, so at least the start.
e. The GPA space (2.6 step 8) ends where the architecture's does, at 52 bits.
f. Of a register pair that output does not fill, and of XMM registers beside it, everything stays
   (2.5 says so for a continued call).
g. Output that cannot be written when its time comes, although it could when the call began, is
   step 8's status then, and elements whose output is lost are not completed.
i. TIMEOUT, which no call answers, is a handler's word that it could not serve the call now, nothing
   of which has happened: the instruction is issued again, from the element that it is of. A prepare()
   that says so behind the last element leaves none: no start may be the count (2.6 step 7).
h. Overlay pages are as good as unmapped for either block (2.4 has it for the input).
"""

from case import PRIVILEGE_VSM, READ, REP, SIMPLE, VTL_CALL, VTL_RETURN, WRITE

# What becomes of the instruction
DONE, RETRY, UD, SWITCHED = range(4)

# 2.8
SUCCESS = 0x0000
INVALID_HYPERCALL_CODE = 0x0002
INVALID_HYPERCALL_INPUT = 0x0003
INVALID_ALIGNMENT = 0x0004
ACCESS_DENIED = 0x0006
TIMEOUT = 0x0078

PAGE_SIZE = 4096
GPA_SPACE = 1 << 52
PAIR = 16
EINVAL = 22

# 2.1: where each item is, the most significant register first
REGISTERS = {
    64: {"input value": ["rcx"], "input": ["rdx"], "output": ["r8"], "result": ["rax"],
         "VTL input": ["rax"]},
    32: {"input value": ["rdx", "rax"], "input": ["rbx", "rcx"], "output": ["rdi", "rsi"],
         "result": ["rdx", "rax"], "VTL input": ["rcx"]},
}


class UndefinedOpcode(Exception):
    """#UD: RIP stays at the instruction, no register changes."""


class Answer(Exception):
    """The call is over, with this status and count of repetitions."""

    def __init__(self, status, reps):
        super().__init__()
        self.status = status
        self.reps = reps


class HostFailure(Exception):
    """Not the guest's fault: nothing of it has changed, and it is told nothing."""

    def __init__(self, number):
        super().__init__()
        self.number = number


def bits(value, high, low):
    return value >> low & ((1 << (high - low + 1)) - 1)


def width(guest):
    """2.1: the 64-bit convention iff EFER.LMA=1 and CS.L=1, otherwise the 32-bit convention"""
    return 64 if guest.lma and guest.cs_l else 32


def get(guest, item):
    value = 0
    for name in REGISTERS[width(guest)][item]:
        value = value << width(guest) | bits(guest.regs[name], width(guest) - 1, 0)
    return value


def put(guest, item, value):
    """A write to a 32-bit register clears the upper half of the whole one."""
    for name in reversed(REGISTERS[width(guest)][item]):
        guest.regs[name] = bits(value, width(guest) - 1, 0)
        value >>= width(guest)


class InputValue:
    """2.2"""

    def __init__(self, value):
        self.value = value
        self.code = bits(value, 15, 0)
        self.fast = bits(value, 16, 16) == 1
        self.variable_header = 8 * bits(value, 26, 17)
        self.count = bits(value, 43, 32)
        self.start = bits(value, 59, 48)
        # Nested (31) is for a hypervisor beneath, which no guest has.
        self.reserved = (bits(value, 30, 27), bits(value, 31, 31), bits(value, 47, 44),
                         bits(value, 63, 60))


class Block:
    """2.4: a parameter block, which is a range of memory or of register pairs"""

    def __init__(self, length):
        self.length = length
        self.gpa = None
        self.pairs = (length + PAIR - 1) // PAIR  # 2.5
        self.first_pair = 0

    def end(self):
        return self.gpa + self.length

    def uses_xmm(self):
        """Pair 0 is RDX and R8, the others are XMM registers."""
        return self.pairs > 0 and self.first_pair + self.pairs > 1

    def straddles(self):
        return self.gpa // PAGE_SIZE != (self.end() - 1) // PAGE_SIZE

    def overlaps(self, other):
        return self.gpa < other.end() and other.gpa < self.end()


def blocks_of(call, control):
    """2.4, 2.5: output begins in the register pair that follows the last input pair"""
    header = call.input
    if call.variable:
        header += control.variable_header
    if call.kind == SIMPLE:
        inward, outward = Block(header), Block(call.output)
    else:
        inward = Block(header + control.count * call.rep_in)
        outward = Block(control.count * call.rep_out)
    outward.first_pair = inward.pairs
    return header, inward, outward


def hypercall(guest, table):
    """One issue of the instruction. Returns DONE, RETRY, UD or SWITCHED, or a negative errno."""
    try:
        return validity_checks(guest, table)
    except UndefinedOpcode:
        return UD
    except Answer as answer:
        # 2.3
        put(guest, "result", answer.status | answer.reps << 32)
        return DONE
    except HostFailure as failure:
        return -failure.number


def validity_checks(guest, table):
    """2.6, step by step"""
    # 1
    if guest.cpl != 0 or not guest.pe or guest.vm:
        raise UndefinedOpcode
    control = InputValue(get(guest, "input value"))

    # 2
    if control.code in (VTL_CALL, VTL_RETURN):
        return vtl_switch(guest, control)

    # 3
    call = table.get(control.code)
    if call is None:
        raise Answer(INVALID_HYPERCALL_CODE, 0)

    # 4
    if any(control.reserved):
        raise Answer(INVALID_HYPERCALL_INPUT, 0)

    # 5: a 32-bit caller has no XMM registers to use (2.1)
    header, inward, outward = blocks_of(call, control)
    if control.fast and width(guest) == 64:
        if inward.uses_xmm() and not guest.xmm_input:
            raise UndefinedOpcode
        if outward.uses_xmm() and not guest.xmm_output:
            raise UndefinedOpcode

    # 6
    if call.kind == SIMPLE and (control.count != 0 or control.start != 0):
        raise Answer(INVALID_HYPERCALL_INPUT, 0)
    if not call.variable and control.variable_header != 0:
        raise Answer(INVALID_HYPERCALL_INPUT, 0)

    # 7
    if call.kind == REP and (control.count == 0 or control.start >= control.count):
        raise Answer(INVALID_HYPERCALL_INPUT, 0)

    # 8
    if control.fast:
        data = fast_input(guest, control, inward, outward)
    else:
        data = memory_input(guest, control, inward, outward)

    # 9
    if call.privilege & ~guest.privileges:
        raise Answer(ACCESS_DENIED, control.start)

    # 10
    guest.call_begins(call, control, data[:header], width(guest) == 64)
    if call.kind == SIMPLE:
        return simple_call(guest, control, call, outward)
    return rep_call(guest, control, call, data[header:], outward)


# ---- Parameters ----

def fast_input(guest, control, inward, outward):
    """2.5, 2.6 step 8: 7 pairs, or one and no output for a 32-bit caller"""
    pairs = 7 if width(guest) == 64 else 1
    if inward.pairs + outward.pairs > pairs:
        raise Answer(INVALID_HYPERCALL_INPUT, control.start)
    if outward.pairs > 0 and width(guest) == 32:
        raise Answer(INVALID_HYPERCALL_INPUT, control.start)

    data = get(guest, "input").to_bytes(8, "little") + get(guest, "output").to_bytes(8, "little")
    if inward.uses_xmm() or outward.uses_xmm():
        guest.host("get_xmm")
        data += bytes(guest.xmm)
    return data[:inward.length]


def memory_input(guest, control, inward, outward):
    """2.4, 2.6 step 8; nothing is asked of the GPA of an empty block"""
    inward.gpa = get(guest, "input")
    outward.gpa = get(guest, "output")
    blocks = [block for block in (inward, outward) if block.length > 0]

    for wrong in (lambda block: block.straddles(),
                  lambda block: block.gpa % 8 != 0,
                  lambda block: block.gpa >= GPA_SPACE):
        if any(wrong(block) for block in blocks):
            raise Answer(INVALID_ALIGNMENT, control.start)
    if len(blocks) == 2 and inward.overlaps(outward):
        raise Answer(INVALID_HYPERCALL_INPUT, control.start)

    data = b""
    if inward.length > 0:
        guest.host("read")
        page = accessible(guest, inward.gpa, READ)
        if page is None:
            raise Answer(INVALID_HYPERCALL_INPUT, control.start)
        offset = inward.gpa % PAGE_SIZE
        data = bytes(page.data[offset:offset + inward.length])
    if outward.length > 0:
        guest.host("probe")
        if accessible(guest, outward.gpa, WRITE) is None:
            raise Answer(INVALID_HYPERCALL_INPUT, control.start)
    return data


def accessible(guest, gpa, right):
    """2.4: mapped, with the right in the calling VTL's view, and no overlay page of it (8.9)"""
    page = guest.page(gpa // PAGE_SIZE)
    if page is None or guest.overlay(page, guest.active_vtl):
        return None
    if not guest.rights(page, guest.active_vtl) & right:
        return None
    return page


def give(guest, control, outward, output, first):
    """Puts @output, which is that of the block from byte @first on, where the caller wants it."""
    if not output:
        return
    if not control.fast:
        guest.host("write")
        page = accessible(guest, outward.gpa, WRITE)
        if page is None:
            raise Answer(INVALID_HYPERCALL_INPUT, control.start)
        guest.store(page, outward.gpa % PAGE_SIZE + first, output)
        return

    # 2.5: merged with what the registers hold
    registers = bytearray(get(guest, "input").to_bytes(8, "little") +
                          get(guest, "output").to_bytes(8, "little") + guest.xmm)
    at = outward.first_pair * PAIR + first
    registers[at:at + len(output)] = output
    if at + len(output) > PAIR:
        guest.host("set_xmm")
        guest.xmm[:] = registers[PAIR:]
    put(guest, "input", int.from_bytes(registers[:8], "little"))
    put(guest, "output", int.from_bytes(registers[8:PAIR], "little"))


# ---- The calls ----

def ended(status):
    """A handler's answer: negative is the host's failure."""
    if status < 0:
        raise HostFailure(-status)
    return status != SUCCESS


def simple_call(guest, control, call, outward):
    status, output = guest.serve_simple(call)
    if status == TIMEOUT:
        return RETRY
    # 2.6: on failure nothing is written
    if not ended(status):
        give(guest, control, outward, output, 0)
    raise Answer(status, 0)


def rep_call(guest, control, call, elements, outward):
    """2.6 (completion) and 2.7; prepare() is struct hv_call's"""
    start, count = control.start, control.count
    outputs = {}
    done = start
    status = SUCCESS
    stopped = False

    if call.prepare:
        status, done = guest.prepare(call, elements, outputs)
        if status == TIMEOUT:
            status, stopped = SUCCESS, True
        ended(status)
        if not start <= done <= count:
            raise HostFailure(EINVAL)

    while status == SUCCESS and done < count and not stopped:
        # 2.7: after any element, so that each issue of the instruction completes one at least
        if done > start and guest.stops_before(done):
            stopped = True
            break
        status = guest.serve_element(call, elements, done, outputs)
        if status == TIMEOUT:
            status, stopped = SUCCESS, True
            break
        if not ended(status):
            done += 1

    # Completed elements are written, at the place of their absolute index (2.4).
    output = b"".join(outputs[index] for index in range(start, done))
    give(guest, control, outward, output, start * call.rep_out)
    if not stopped or done == count:
        raise Answer(status, done)

    # 2.7: the start index in the control register, which is RCX or, its upper half, EDX
    if done == start:
        return RETRY
    value = control.value & ~(0xfff << 48) | done << 48
    if width(guest) == 64:
        guest.regs["rcx"] = value
    else:
        guest.regs["rdx"] = value >> 32
    return RETRY


# ---- VTL call and return ----

def vtl_switch(guest, control):
    """3.6 and 6.1; without AccessVsm there is no VTL to call (1.2)"""
    if control.value != control.code or PRIVILEGE_VSM & ~guest.privileges:
        raise UndefinedOpcode
    is_return = control.code == VTL_RETURN
    control_input = get(guest, "VTL input")
    guest.switch_asked(is_return, control_input)
    if is_return:
        legal = bits(control_input, 63, 1) == 0 and guest.active_vtl > 0
    else:
        higher = guest.enabled_vtls >> (guest.active_vtl + 1)
        legal = control_input == 0 and higher != 0
    if not legal:
        raise UndefinedOpcode
    return SWITCHED


def hot_path(guest):
    """6.1 without the state of the VTLs: whether VTL call and return would be legal, and the
    control input of the one that is"""
    if guest.cpl != 0 or not guest.pe or guest.vm:
        return False, False, 0
    value, control_input = get(guest, "input value"), get(guest, "VTL input")
    call = value == VTL_CALL and control_input == 0
    back = value == VTL_RETURN and control_input in (0, 1)
    return call, back, control_input if call or back else 0
