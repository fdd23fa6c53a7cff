#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-image: a small sound image of every kind.

usage: make-corpus-image.py DIRECTORY

The layout is struct seed of fuzz-image.c, then the image.
"""

import pathlib
import struct
import sys

MAGIC = 0x1BADB002
ADDRESSES = 1 << 16
LOAD = 0x200000


def seed(image, vcpus=1, append=255, initrd_pages=0, high=0):
    return struct.pack("<BBHB3x", vcpus, append, initrd_pages, high) + image


def header(flags, *addresses):
    return struct.pack(f"<{3 + len(addresses)}I", MAGIC, flags, -(MAGIC + flags) & 0xFFFFFFFF,
                       *addresses)


def kludge(load_end=0, bss_end=LOAD + 0x400):
    return header(ADDRESSES | 3, LOAD, LOAD, load_end, bss_end, LOAD + 32) + bytes(32)


def elf(bits, virtual=LOAD):
    ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1]) + bytes(9)
    entry = virtual + 4
    if bits == 32:
        head = ident + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        segment = struct.pack("<8I", 1, 160, virtual, LOAD, 32, 64, 7, 16)
    else:
        head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        segment = struct.pack("<IIQQQQQQ", 1, 7, 160, virtual, LOAD, 32, 64, 16)
    return (head + segment).ljust(128, b"\0") + header(3).ljust(32, b"\0") + bytes(32)


def linux(version=0x020F, xloadflags=1):
    image = bytearray(2 * 512 + 0x300)
    fields = {
        0x1F1: ("B", 1), 0x1F4: ("I", 0x300 // 16), 0x1FE: ("H", 0xAA55), 0x200: ("B", 0xEB),
        0x201: ("B", 0x6A), 0x202: ("4s", b"HdrS"), 0x206: ("H", version), 0x211: ("B", 1),
        0x214: ("I", 0x100000), 0x22C: ("I", 0x7FFFFFFF), 0x230: ("I", 0x1000), 0x234: ("B", 1),
        0x236: ("H", xloadflags), 0x238: ("I", 255), 0x258: ("Q", 0x100000), 0x260: ("I", 0x10000),
    }
    for at, (kind, value) in fields.items():
        struct.pack_into("<" + kind, image, at, value)
    return bytes(image)


CORPUS = {
    "kludge": seed(kludge()),
    "kludge-no-bss": seed(kludge(load_end=LOAD + 40, bss_end=0), append=0, high=4),
    "elf32": seed(elf(32), vcpus=64, append=3, initrd_pages=2),
    "elf64": seed(elf(64)),
    "elf64-virtual": seed(elf(64, virtual=0xFFFFFFFF80000000), append=1),
    "linux64": seed(linux(), append=2, initrd_pages=3),
    "linux32": seed(linux(xloadflags=0), vcpus=2),
    "linux-2.06": seed(linux(version=0x0206)),
    "linux-initrd-too-large": seed(linux(), initrd_pages=0x800),
    "bad-checksum": seed(struct.pack("<III", MAGIC, 3, 1)),
    "no-vcpus": seed(kludge(), vcpus=0),
    "nothing": seed(b""),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in CORPUS.items():
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
