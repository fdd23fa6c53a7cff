#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-engine: a passage of each kind, honest and hostile.

usage: make-corpus-engine.py DIRECTORY

The layout is struct seed and struct step of fuzz-engine.c.
"""

import pathlib
import struct
import sys

(REGISTER, MODE, WRITE, CODE, OUT, CALL, FAST, RDMSR, WRMSR, LOAD, STORE, FAULT, KICK, WINDOW,
 HALT, CR8, VTL_CALL, VTL_RETURN, EVENT, ENABLE, MODIFY, GET, SET, KICKED, BAD_EXIT,
 FAILURE, TIME, PORT, INSTALL, SAVE) = range(30)
VP1 = 0x80
HOSTILE, BEHIND, REFUSE, VTL1, STRICT, ACCEPT, NO_IPI = 1, 2, 4, 8, 16, 32, 64

# Positions in the tables of engine-tables.h
(C_MODIFY, C_PARTITION, C_VP, C_CALL, C_RETURN, C_GET, C_SET, C_APIC, C_EXT, C_FLUSH,
 C_FLUSH_LIST, C_FLUSH_EX, C_FLUSH_LIST_EX, C_SPIN, C_IPI, C_IPI_EX, C_INTERCEPT, C_TRANSLATE,
 C_TRANSLATE_EX, C_POST, C_POST_DIRECT, C_SIGNAL, C_SIGNAL_DIRECT, C_ASSERT, C_START, C_SPARSE,
 C_NONE) = range(27)
(M_OS_ID, M_HYPERCALL, M_INDEX, M_TIME, M_TSC, M_TSC_HZ, M_APIC_HZ, M_EOI, M_ICR, M_TPR, M_ASSIST,
 M_SCONTROL, M_SVERSION, M_SIEFP, M_SIMP, M_EOM, M_SINT0, M_SINT15, M_APIC_BASE) = range(19)
(N_EVENT, N_RAX, N_RSP, N_RIP, N_RFLAGS, N_XMM, N_CR0, N_CR2, N_CR3, N_CR4, N_CR8, N_XFEM, N_DR0,
 N_DR7, N_CS, N_GS, N_TR, N_IDTR, N_EFER, N_KGS, N_APIC_BASE, N_PAT, N_LSTAR, N_ASSIST, N_SINT0,
 N_SIPP, N_STATUS, N_VINA, N_CONFIG, N_SECURE, N_CRI, N_CRI_MASK) = range(32)
M_LVT_TIMER, M_DEADLINE, ANY = 24, 25, 0x80  # ANY: of Hyper-V's range, by its distance
RBX, RCX, RDX, RSI, R8, RIP, RFLAGS = 1, 2, 3, 4, 8, 16, 17  # as in struct kvm_regs

CLOSED, READ_ONLY, FREE = 0x180, 0x182, 0x184
LAST = 0x3ff  # of the tiny guest
EXIT_STATE, STATE_RESET = 12, 2  # VTL_EXIT_STATE, VTL_STATE_RESET
SELF = 0xffffffffffffffff
ASSIST, SIMP, PAGE = 0x150001, 0x151001, 0x152001
ENTRY_PLAIN, ENTRY_CALL32, ENTRY_CALL64, ENTRY_RETURN32, ENTRY_RETURN64 = range(5)


def step(kind, arg=0, where=0, value=0):
    return struct.pack("<BBHQ", kind, arg, where, value & SELF)


def code(hexes):
    return step(CODE, value=int.from_bytes(bytes.fromhex(hexes).ljust(8, b"\x90"), "little"))


def faulting(hexes, gpa):
    return code(hexes) + step(REGISTER, RBX, value=gpa) + step(FAULT)


LOAD_RAX, STORE_RAX, REP_MOVS = "488b03", "488903", "f348a5"
INPUT = 0x110  # the page of hypercall input
ENABLE_ALL = step(ENABLE, 0) + step(ENABLE, 1, 0) + step(VTL_CALL) + step(ENABLE, 2, 0, 0x1f)
HEADER = step(WRITE, 0, INPUT, SELF) + step(WRITE, 1, INPUT, 0xfffffffe)
RETURN = step(VTL_RETURN, 1)
LSTAR = 0x40 | 5  # of those MSRs that are intercepted
PORT_IN, MSR_WRITE = 1 << 2, 1 | 2 << 2  # InstallIntercept: type and access


def called(code, control, *words):
    """A hypercall with that input"""
    return b"".join(step(WRITE, i, INPUT, w) for i, w in enumerate(words)) + step(CALL, code, 0, control)


ALL_CALLS = (
    called(C_FLUSH, 0, 0, 3, 3) + called(C_FLUSH_LIST, 2 << 32, 0, 3, 3, 0x5000, 0x180001) +
    called(C_FLUSH_EX, 1 << 17, 0, 2, 0, 1, 3) +
    called(C_FLUSH_LIST_EX, 1 << 32, 0, 3, 1, 0, 0x180000) + step(FAST, C_SPIN, 0, 1000) +
    called(C_IPI, 0, 0x50, 3) + called(C_IPI, 0, 0x50 | 0x11 << 32, 3) +
    called(C_IPI_EX, 0, 0x50, 1, 0) + called(C_TRANSLATE, 0, SELF, 0xfffffffe, 5, CLOSED) +
    called(C_TRANSLATE_EX, 0, SELF, 0xfffffffe, 5 | 0x11 << 56, READ_ONLY) +
    called(C_POST, 0, 1, 8 << 32 | 1, 7) +
    called(C_POST_DIRECT, 0, SELF, 0x0000000200000000, 8 << 32 | 1, 7) +
    called(C_SIGNAL, 0, 1 << 32) + called(C_SIGNAL_DIRECT, 0, SELF, 5 << 48 | 2 << 40) +
    called(C_ASSERT, 0, SELF, 0, 0, 0x51) +
    called(C_START, 0, SELF, 1) +
    called(C_SPARSE, 2 << 32, SELF, 1 << 8, CLOSED, FREE))

CORPUS = {
    "hostile-fault": (HOSTILE,
        faulting(LOAD_RAX, CLOSED << 12) + step(KICK) +
        faulting(STORE_RAX, READ_ONLY << 12 | 8) + step(KICK, 2, FREE)),
    "hostile-emulated": (HOSTILE,
        code(LOAD_RAX) + step(REGISTER, RBX, value=CLOSED << 12) + step(LOAD, 7, CLOSED) +
        step(KICK) + step(STORE, 7, READ_ONLY, 0x1234) + step(KICK) + step(LOAD, 7, READ_ONLY) +
        step(STORE, 3, CLOSED, 0xfff << 52)),
    "hostile-parameters": (HOSTILE | BEHIND,
        step(REGISTER, RDX, value=CLOSED << 12) + step(REGISTER, R8, value=FREE << 12) +
        step(REGISTER, RCX, value=0x0000000100000050) + step(OUT, ENTRY_PLAIN) +
        step(REGISTER, RDX, value=INPUT << 12) + step(REGISTER, R8, value=READ_ONLY << 12) +
        step(OUT, ENTRY_PLAIN)),
    "hostile-registers": (HOSTILE,
        b"".join(step(GET, n, vtl) for n in (N_LSTAR, N_RSP, N_GS, N_SINT0) for vtl in (0x11,
        0x10, 0x311))),
    "hostile-overlays": (HOSTILE,
        b"".join(step(WRMSR, m, 0, page << 12 | 1) for m in (M_ASSIST, M_SIMP, M_SIEFP, M_TSC)
        for page in (CLOSED, READ_ONLY, FREE, FREE + 1))),
    "hostile-hypercall-page": (HOSTILE,
        step(WRMSR, M_OS_ID, 0, 1) + step(WRMSR, M_HYPERCALL, 0, FREE << 12 | 1) +
        faulting(STORE_RAX, FREE << 12) + step(STORE, 7, FREE, 1)),
    "hostile-modify": (HOSTILE,
        step(MODIFY, 0, CLOSED, 0xf) + HEADER + step(CALL, C_MODIFY, 0, 1 << 32) +
        step(VTL_CALL) + step(KICK, 6, FREE) + step(VTL_CALL) + step(KICK, 2, FREE)),
    "hostile-tables": (HOSTILE,
        step(MODE, 3, 0, CLOSED << 12) + code(LOAD_RAX) + step(FAULT) + step(KICK) +
        step(EVENT, 0x50) + step(FAULT)),
    "hostile-string": (HOSTILE,
        step(REGISTER, RSI, value=CLOSED << 12) + step(REGISTER, RCX, value=8) +
        faulting(REP_MOVS, 0)),
    "hostile-vp1": (HOSTILE,
        step(LOAD | VP1, 7, CLOSED) + step(STORE | VP1, 7, READ_ONLY, 1) + step(VTL_CALL | VP1) +
        step(FAULT | VP1)),
    "hostile-returns": (HOSTILE, step(VTL_CALL) + step(KICK, 1) + step(VTL_CALL) + step(KICK, 0)),
    "refused": (REFUSE, step(ENABLE, 0) + step(ENABLE, 1, 0) + step(VTL_CALL)),
    "enable": (0, ENABLE_ALL + step(ENABLE, 1, 1) + RETURN + step(VTL_CALL | VP1)),
    "enable-behind": (BEHIND, ENABLE_ALL + RETURN + step(VTL_CALL) + step(VTL_RETURN, 0)),
    "msrs": (0,
        b"".join(step(RDMSR, m) +
        step(WRMSR, m, 0, v) for m, v in ((M_OS_ID, 1), (M_HYPERCALL, PAGE), (M_TSC, ASSIST +
        0x3000), (M_ASSIST, ASSIST), (M_SIMP, SIMP), (M_SINT0, 0x30), (M_SCONTROL, 1), (M_EOM,
        0)))),
    "interrupts": (VTL1,
        step(ENABLE, 3) + step(STORE, 3, 0xffff, 0x300 << 52 | 0x40060) +
        step(REGISTER, RFLAGS, value=0x202) + step(WINDOW) + step(WRMSR, M_EOI) +
        step(WRMSR, M_ICR, 0, 0x40061) + step(CR8, 7) + step(HALT) + step(CR8, 0) + step(KICK)),
    "ipi": (VTL1,
        step(ENABLE, 1, 1) + step(VTL_CALL | VP1) + step(ENABLE | VP1, 3) +
        step(VTL_RETURN | VP1, 1) + step(WRMSR, M_ICR, 0, 0xc0070) + step(KICK | VP1) +
        step(REGISTER | VP1, RFLAGS, value=0x202) + step(WINDOW | VP1)),
    "vina": (VTL1,
        step(ENABLE, 3) + step(SET, N_VINA, 0x300, 0x371) + step(REGISTER, RFLAGS, value=0x202) +
        step(KICK, 0, 0, 0x100) + step(WRMSR, M_EOI) + step(KICK, 0, 0, 0x101) + RETURN +
        step(VTL_CALL) + step(KICK, 0, 0, 2) + step(WRMSR, M_EOI) + step(KICK, 0, 0, 0x1ff)),
    "stimer": (VTL1,
        step(ENABLE, 3) + step(WRMSR, ANY, 0xb1, 10000) + step(WRMSR, ANY, 0xb0, 0x51061b) +
        step(TIME, 0, 0, 2000000) + step(REGISTER, RFLAGS, value=0x202) + step(WINDOW) +
        step(WRMSR, M_EOI) + RETURN + step(TIME, 0, 0, 10000000000) + step(RDMSR, M_TIME)),
    "tsc-deadline": (VTL1,
        step(ENABLE, 3) + step(WRMSR, M_TSC, 0, ASSIST + 0x3000) +
        step(WRMSR, M_APIC_BASE, 0, 0xfee00d00) + step(WRMSR, M_LVT_TIMER, 0, 0x40071) +
        step(WRMSR, M_DEADLINE, 0, 100000000) + step(TIME, 0, 0, 1000000000) +
        step(RDMSR, M_DEADLINE) + step(REGISTER, RFLAGS, value=0x202) + step(WINDOW)),
    "x2apic": (VTL1,
        step(WRMSR, M_APIC_BASE, 0, 0xfee00d00) + step(RDMSR, 19) + step(WRMSR, 23, 0, 0x1ff) +
        step(WRMSR, 22, 0, 0x50)),
    "protect": (VTL1,
        step(ENABLE, 2, 0, 0x1f) + step(MODIFY, 0, FREE, 0) + step(MODIFY, 0, 0x1000, 1) +
        step(MODIFY, 0, FREE, 0xf) + RETURN + step(LOAD, 7, FREE)),
    "intercept": (VTL1,
        step(ENABLE, 2, 0, 0x1f) + step(ENABLE, 3) + step(WRMSR, M_SINT0, 0, 0x60) +
        step(WRMSR, M_SIMP, 0, SIMP) + step(MODIFY, 0, FREE, 1) + RETURN +
        faulting(STORE_RAX, FREE << 12) + step(REGISTER, RFLAGS, value=0x202) + step(WINDOW) +
        step(SET, N_RIP, 0x310, 0x10003) + step(SET, N_EVENT, 0x310, 0xd0101) + RETURN),
    "held-store": (VTL1,
        step(ENABLE, 2, 0, 0x1f) + step(ENABLE, 3) + step(WRMSR, M_SINT0, 0, 0x60) +
        step(MODIFY, 0, FREE, 1) + RETURN + step(STORE, 7, FREE, 0x55) +
        step(MODIFY, 0, FREE, 0xf) + step(REGISTER, RFLAGS, value=0x202) + step(WINDOW) +
        RETURN),
    "registers": (VTL1,
        b"".join(step(GET, n, 0x310) + step(SET, n, 0x310, 0x33) for n in range(32))),
    "registers-vtl1": (VTL1,
        b"".join(step(SET, n, 0x300, v) for n, v in ((N_VINA, 0x130), (N_CONFIG, 0x1f),
        (N_SECURE, 2), (N_SINT0, 0x30), (N_SIPP, SIMP), (N_ASSIST, ASSIST), (N_CRI_MASK, 1)))),
    "fast": (0,
        b"".join(step(FAST, c, 0x101, 0x1) for c in range(10)) +
        b"".join(step(FAST, c, 0x112, 0xfffffffe) for c in range(10))),
    "32-bit": (0,
        step(ENABLE, 0) + step(ENABLE, 1) + step(MODE, 2, 0, 1) + step(REGISTER, 0, 0, 0x11) +
        step(REGISTER, RCX) + step(REGISTER, RDX) + step(OUT, ENTRY_CALL32) +
        step(MODE, 2, 0, 1) + step(REGISTER, 0, 0, 0x12) + step(OUT, ENTRY_RETURN32)),
    "calls": (VTL1 | ACCEPT, ALL_CALLS + RETURN + ALL_CALLS),
    "hostile-calls": (HOSTILE, ALL_CALLS + step(KICK, 1) + called(C_INTERCEPT, 0, SELF, 1)),
    "no-ipi": (VTL1 | NO_IPI, RETURN + called(C_IPI, 0, 0x50 | 0x11 << 32, 3)),
    "intercepts": (VTL1,
        step(ENABLE, 3) + step(WRMSR, M_SINT0, 0, 0x60) + step(WRMSR, M_SIMP, 0, SIMP) +
        step(INSTALL, PORT_IN, 0, 0x60) + step(INSTALL, MSR_WRITE, 5) + RETURN +
        step(PORT, 0, 0x60) + step(WINDOW) + step(WRMSR, M_EOI) + RETURN +
        step(WRMSR, LSTAR, 0, 0x1234) + step(WINDOW) + step(INSTALL, 0, 0, 0x60) + RETURN +
        step(PORT, 0x40, 0x60)),
    "hostile-intercepts": (HOSTILE,
        step(VTL_CALL) + step(KICK, 4 | PORT_IN, 0, 0x60) + step(PORT, 0, 0x60) + step(KICK) +
        step(VTL_CALL) + step(KICK, MSR_WRITE | 4, 5) + step(WRMSR, LSTAR, 0, 0x1234) +
        step(KICK)),
    "strict": (VTL1 | STRICT,
        step(ENABLE, 2, 0, 0x1f) + step(MODIFY, 0, FREE, 3) + RETURN +
        faulting(STORE_RAX, FREE << 12) + faulting(REP_MOVS, FREE << 12) +
        step(FAULT, 0, 1) + step(FAULT, 0, 2)),
    "strict-no-progress": (VTL1 | STRICT,
        step(ENABLE, 2, 0, 0x1f) + step(MODIFY, 0, FREE, 3) + RETURN +
        faulting(STORE_RAX, FREE << 12) + step(FAULT, 0, 1) * 17),
    "strict-two": (VTL1 | STRICT,
        step(ENABLE, 2, 0, 0x1f) + step(MODIFY, 0, FREE, 3) + step(ENABLE, 1, 1) + RETURN +
        code(STORE_RAX) + step(REGISTER, RBX, value=FREE << 12) + step(FAULT, 1) +
        step(VTL_CALL | VP1) + step(MODIFY | VP1, 0, FREE, 0xf) + step(FAULT) +
        step(MODIFY | VP1, 0, FREE, 1) + step(FAULT, 1) + step(MODIFY | VP1, 0, FREE, 0)),
    "hostile-strict": (HOSTILE | STRICT,
        faulting(LOAD_RAX, READ_ONLY << 12) + faulting(STORE_RAX, READ_ONLY << 12) + step(KICK, 6) +
        faulting(LOAD_RAX, CLOSED << 12) + step(KICK, 2, FREE) + faulting(LOAD_RAX, FREE << 12)),
    "saved": (VTL1 | STRICT,
        step(SAVE) + step(ENABLE, 2, 0, 0x1f) + step(ENABLE, 3) + step(MODIFY, 0, FREE, 3) +
        step(WRMSR, M_ASSIST, 0, ASSIST) + step(WRMSR, M_SIMP, 0, SIMP) +
        step(WRMSR, ANY, 0xb1, 10000) + step(WRMSR, ANY, 0xb0, 0x51061b) + step(SAVE) + RETURN +
        step(STORE, 7, FREE, 0x55) + step(SAVE | VP1) + step(TIME, 0, 0, 2000000) +
        step(ENABLE, 1, 1) + step(SAVE) + step(VTL_CALL | VP1) + step(SAVE)),
    "saved-room": (VTL1 | STRICT,
        step(ENABLE, 2, 0, 0x1f) +
        b"".join(step(MODIFY, 0, FREE + i, 3) for i in range(9)) + step(MODIFY, 0, FREE, 0xf) +
        step(SAVE)),
    "hostile-saved": (HOSTILE, step(SAVE) + step(LOAD, 7, CLOSED) + step(VTL_CALL) + step(SAVE)),
    "modes": (0, b"".join(step(MODE, m, 0, 3) + step(CALL, C_EXT) for m in (1, 4, 2, 0))),
    "continuation": (VTL1,
        HEADER + step(WRITE, 2, INPUT, 0x0009000300090003) + step(KICKED, 1) +
        step(CALL, C_GET, 0, 2 << 32) + step(OUT, ENTRY_PLAIN) + step(KICKED, 0)),
    "failures": (0, step(FAILURE, 9) + ENABLE_ALL + RETURN),
    "no-mappings": (VTL1,
        step(ENABLE, 2, 0, 0x1f) + step(FAILURE, 1, 1) + step(MODIFY, 0, FREE, 0) +
        step(MODIFY, 0, FREE, 1)),
    "bad-exit": (VTL1, step(BAD_EXIT, 9, 2, 1)),
    "vmm-resets": (HOSTILE,
        step(BAD_EXIT, EXIT_STATE, STATE_RESET << 8) + step(LOAD, 7, CLOSED) + ENABLE_ALL),
    "store-at-end": (VTL1, step(ENABLE, 3) + step(STORE, 3, LAST, 0xfff << 52)),
    "same-fault": (0, code(LOAD_RAX) + step(FAULT) * 17),
}


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, (flags, steps) in CORPUS.items():
        (directory / name).write_bytes(bytes([flags]) + steps)


main()
