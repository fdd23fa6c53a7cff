#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-saved: sound files of vtlrun --save, and such that are not.

usage: make-corpus-saved.py FOLDER

The layout is vmm/vtlrun-saved.h's; the machine has the CPUID of fuzz-saved.c, one entry of zeros.
"""

import pathlib
import struct
import sys

MAGIC = 0x6D766E75726C7476
HEAD = struct.Struct("<4sIIIQ")
PIECE, MEMORY = 65536, (2 << 20) + 4096


def section(name, content=b"", index=0, version=1):
    return HEAD.pack(name.ljust(4).encode(), version, index, 0, len(content)) + content + bytes(-len(content) % 8)


def machine(vcpus=1, levels=False, memory=MEMORY, name=b"saved", uuid=bytes(range(16))):
    return section("VM", struct.pack("<IIQQ16s64s", vcpus, levels, memory, 2000000, uuid, name))


def image(flags=0xF, msrs=((0x174, 1), (0x6E0, 2))):
    size = 6192 + 16 * len(msrs)
    beginning = struct.pack("<II", size, flags) + bytes(6192 - 8 - 4096 - 16 - 8)
    return (beginning + struct.pack("<IIQQ", 0, len(msrs), 1 << 40, 5) + bytes(4096) +
            b"".join(struct.pack("<QQ", *m) for m in msrs))


def chip(number):
    return section("CHIP", struct.pack("<II", number, 0) + bytes(512), number)


def devices(head=3, count=2, trigger=1, enabled=1, index=5):
    return section("DEVS", struct.pack("<10BHIII", 1, 3, 0, 0, 0, trigger, enabled, 1, 0, 0, 12, 7, head, count) +
                   bytes(16) + struct.pack("<HBBII", 0x19, index, 0, 4, 1) + bytes(128))


def whole(vcpus=1, levels=False, ram=((32, 4096),), more=b"", **about):
    parts = [struct.pack("<Q", MAGIC), machine(vcpus, levels, **about)]
    for i in range(vcpus):
        parts += [section("CPID", bytes(40), i), section("VCPU", image(), i)]
    parts += [chip(0), chip(1), chip(2), section("PIT", bytes(112)), devices()]
    if levels:
        parts.append(section("VTLS", b"what the engine saved"))
    parts += [section("RAM", b"\x5a" * size, index) for index, size in ram]
    return b"".join(parts) + more + HEAD.pack(b"END ", 0, 0, 0, 0)


def corpus():
    sound = whole()
    yield "plain", sound
    yield "levels", whole(levels=True)
    yield "two-vcpus", whole(vcpus=2, levels=True, ram=())
    yield "ram", whole(ram=((3, PIECE), (32, 4096)))
    yield "cut", sound[:-30]
    yield "cut-early", sound[:60]
    yield "empty", b""
    yield "another-version", sound.replace(section("PIT", bytes(112)), section("PIT", bytes(112), version=2))
    yield "another-processor", sound.replace(section("CPID", bytes(40)), section("CPID", b"\1" * 40))
    yield "no-chip", sound.replace(chip(1), b"")
    yield "chip-twice", sound.replace(chip(1), chip(1) + chip(1))
    yield "chip-number", sound.replace(chip(1), section("CHIP", bytes(520), 1))
    yield "fifo", sound.replace(devices(), devices(head=16, count=17))
    yield "unknown-section", whole(more=section("WHAT", b"?"))
    yield "ram-backwards", whole(ram=((32, 4096), (31, PIECE)))
    yield "ram-behind", whole(ram=((33, 4096),))
    yield "ram-short", whole(ram=((0, 100),))
    yield "levels-twice", whole(levels=True, more=section("VTLS", b"again"))
    yield "levels-huge", whole(more=HEAD.pack(b"VTLS", 1, 0, 0, 1 << 40))
    yield "msr", sound.replace(image(), image(msrs=((0x40000000, 1), (0x10, 2))))
    yield "no-name", whole(name=b"")
    yield "long-name", whole(name=b"x" * 64)
    yield "no-uuid", whole(uuid=bytes(16))
    yield "odd-memory", whole(memory=MEMORY + 1)
    yield "large-memory", whole(memory=1 << 40, ram=())
    yield "sixty-five-vcpus", sound.replace(machine(), machine(vcpus=65))


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in corpus():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
