#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-fault: an instruction of every class in every mode, and events.

usage: make-corpus-fault.py DIRECTORY

The layout is struct seed and struct op of fuzz-fault.c, the addresses are those of
tests/unit/tiny-guest.h.
"""

import pathlib
import struct
import sys

LONG, USER, FLAT32, USER32, REAL, PAE, LEGACY, LA57 = range(8)
EXCEPTION, ERROR_CODE, NMI, INTERRUPT, SOFT, NO_VECTORS = 1, 2, 4, 8, 16, 32
TSS16, BIG_TSS = 0x08, 0x20
RIGHTS, TABLE, SYSTEM, MEMORY, VECTOR = range(5)
NONE, RO = 0, 1
# struct kvm_regs: RAX RBX RCX RDX RSI RDI RSP RBP R8-R15
REGISTERS = "rax rbx rcx rdx rsi rdi rsp rbp".split()
STACK, RSP0, DATA, DATA2 = 0x20000, 0x28000, 0x100000, 0x200000


def op(kind, where, value, arg=0):
    return struct.pack("<BBHQ", kind, arg, where, value)


def rights(gpa, mask):
    return op(RIGHTS, gpa >> 12, mask)


def memory(gpa, value):
    return op(MEMORY, gpa // 8 & 0xffff, value, gpa // 8 >> 16)


def seed(mode, code="90", *ops, event=0, vector=0, width=0, rflags=2, cr0=0, cr4=0, rip=0, **gpr):
    head = struct.pack("<BBBBIQQQQ", mode, event, vector, width, rflags, cr0, cr4, 0, rip)
    head += b"".join(struct.pack("<Q", gpr.get(r, 0)) for r in REGISTERS) + bytes(64)
    head += bytes(40) + bytes.fromhex(code).ljust(16, b"\x90")
    return head + b"".join(ops)


CLOSED = rights(DATA, NONE)
CORPUS = {
    "store": seed(LONG, "8908", rights(DATA, RO), rax=DATA),
    "load-straddling": seed(LONG, "488b08", rights(DATA + 0x1000, NONE), rax=DATA + 0xffc),
    "walk-accessed": seed(LONG, "8b08", rights(0x6000, RO), op(TABLE, 0, DATA2 | 3, 5), rax=DATA2),
    "walk-nested": seed(LONG, "8b08", rights(0x6000, RO), rax=DATA2),
    "walk-closed": seed(LA57, "8b08", rights(0x2000, NONE), rax=DATA),
    "fetch-straddling": seed(LONG, "90", rights(0x11000, NONE), memory(0x10ff8, 0xb848 << 48),
                             rip=0xffe),
    "rep-movs": seed(LONG, "f348a5", CLOSED, rsi=DATA2, rdi=DATA, rcx=4),
    "push-pop": seed(LONG, "8f0424", rights(STACK, NONE)),
    "enter": seed(LONG, "c8100005", rights(0x30000 - 0x1000, NONE), rbp=0x30000),
    "pushad": seed(FLAT32, "60", rights(STACK - 0x1000, RO)),
    "int": seed(USER, "cd80", rights(RSP0 - 0x1000, RO)),
    "int-32": seed(USER32, "cd80", rights(RSP0 - 0x1000, RO)),
    "int-16-bit-tss": seed(USER32, "cd80", rights(0xa000, NONE), width=TSS16),
    "int-real": seed(REAL, "cd10", rights(0, NONE)),
    "int-v86": seed(USER32, "cd80", op(SYSTEM, 12, 0x88 << 48, 2), width=BIG_TSS,
                    rflags=0x20002, cr4=1),
    "iret": seed(LONG, "48cf", memory(STACK + 8, 0x2b), memory(STACK + 32, 0x23),
                 rights(0x8000, RO)),
    "iret-32": seed(USER32, "cf", memory(STACK, 0x10 << 32), rights(0x8000, NONE)),
    "iret-v86": seed(FLAT32, "cf", memory(STACK + 8, 1 << 17), rights(STACK, RO)),
    "call-gate": seed(USER, "ff18", memory(DATA, 0x60 << 32), rights(0xa000, NONE), rax=DATA),
    "call-gate-32": seed(USER32, "9a000000006000", rights(RSP0 - 0x1000, RO)),
    "retf": seed(LONG, "48cb", memory(STACK + 8, 0x2b), memory(STACK + 24, 0x23),
                 rights(0x8000, NONE)),
    "segment-load": seed(LONG, "8ed8", rights(0x8000, RO), rax=0x58),
    "segment-ldt": seed(FLAT32, "8ed8", rights(0xb000, NONE), rax=0x0c),
    "ltr": seed(LONG, "0f00d8", rights(0x8000, RO), rax=0x38),
    "lds": seed(FLAT32, "c508", memory(DATA, 0x58 << 32), rights(0x8000, RO), rax=DATA),
    "ports": seed(USER, "6c", op(SYSTEM, 12, 0x68 << 48, 2), rights(0xa000, RO), width=BIG_TSS,
                  rdi=DATA, rdx=0x3f8),
    "bit-string": seed(PAE, "0fab08", CLOSED, rax=DATA2, rcx=0xff800000),
    "legacy-paging": seed(LEGACY, "8908", CLOSED, rights(0x4000, RO), rax=DATA),
    "xsave": seed(LONG, "0fae23", rights(DATA + 0x1000, RO), rbx=DATA + 0xe00, rax=0xe7),
    "gather": seed(LONG, "c4e269900408", CLOSED, op(VECTOR, 0, 2**64 - 1, 2), rax=DATA),
    "gather-no-vectors": seed(LONG, "c4e269900408", CLOSED, event=NO_VECTORS, rax=DATA),
    "scatter": seed(LONG, "62f27d49a004c8", CLOSED, op(VECTOR, 0, 5, 1), rax=DATA),
    "masked-store": seed(LONG, "62f17c491100", CLOSED, op(VECTOR, 0, 0x8001, 1), rax=DATA),
    "movdir64b": seed(LONG, "660f38f802", rights(DATA, RO), rax=DATA + 9, rdx=DATA2),
    "event-stack": seed(LONG, "90", rights(STACK - 0x1000, RO), event=INTERRUPT, vector=64),
    "event-error-code": seed(USER, "90", rights(RSP0 - 0x1000, RO), event=EXCEPTION | ERROR_CODE,
                             vector=14),
    "event-ist": seed(LONG, "90", rights(0x2b000, RO), event=EXCEPTION, vector=0x11),
    "event-32": seed(USER32, "90", rights(0xa000, NONE), event=NMI),
    "event-real": seed(REAL, "90", rights(0, NONE), event=INTERRUPT | SOFT, vector=8),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.split("\n\n")[1])
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in CORPUS.items():
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
