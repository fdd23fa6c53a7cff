#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-trace: rings as a library writes them and others, and answers about protections."""

import os
import struct
import sys

END = (1 << 64) - 1
SWITCH, HYPERCALL, INTERCEPT, INTERRUPT, VINA = range(1, 6)


def record(position, kind=SWITCH, levels=0x10, detail=1, when=1000, data=0x1000, extra=0x2000, sequence=None):
    sequence = (position + 1) & 0xFFFFFFFF if sequence is None else sequence
    return struct.pack("<IBBHQQQ", sequence, kind, levels, detail, when + position, data, extra)


def ring(position, end, *records):
    return b"\0" + struct.pack("<QQ", position, end) + b"".join(records)


def answer(gpn, runs, following=END, n=None, error=0):
    return b"\1" + struct.pack("<QIIiIQQ", gpn, 11, len(runs) if n is None else n, error, 0, 5, following) + \
        b"".join(struct.pack("<QQII", *r, 0) for r in runs)


ALL_KINDS = [record(0), record(1, levels=0x01, detail=0x103), record(2, HYPERCALL, 0x11, 0, data=0x100000000C, extra=1 << 32),
             record(3, HYPERCALL, 0x00, 2), record(4, INTERCEPT, 0x10, 0x200), record(5, INTERCEPT, 0x10, 0x003),
             record(6, INTERRUPT, 0x11, 0x60), record(7, VINA, 0x10, 0x61), record(8, detail=2)]

CORPUS = {
    "all-kinds": ring(0, 9, *ALL_KINDS),
    "from-the-middle": ring(5, 9, *ALL_KINDS),
    "position-ahead": ring(10, 9, *ALL_KINDS),
    "overwritten": ring(0, 1033, *[record(1024 + i) for i in range(9)], *[record(i) for i in range(9, 20)]),
    "being-written": ring(0, 3, record(0), record(1, sequence=0), record(2)),
    "wild-end": ring(END - 2000, END, *ALL_KINDS),
    "wrap-of-the-sequence": ring(0xFFFFFFFE, 0x100000001, record(0x100000000)),
    "wrong-kinds": ring(0, 3, record(0, 0), record(1, 6), record(2, 255)),
    "wrong-levels": ring(0, 3, record(0, levels=0x01), record(1, levels=0xff), record(2, INTERRUPT, 0x00, 32)),
    "wrong-times": ring(0, 3, record(0, when=0), record(1, when=END - 1), record(2, when=500)),
    "wrong-details": ring(0, 3, record(0, detail=0), record(1, HYPERCALL, 0x11, 3), record(2, INTERCEPT, 0x10, 0x304)),
    "empty-ring": ring(0, 0),
    "map": answer(0, [(0, 512, 15), (512, 16, 1), (1 << 20, 1, 0)]),
    "map-goes-on": answer(0x40, [(0x40, 1, 15)], 0x41),
    "map-nothing": answer(0x40, []),
    "map-error": answer(0x40, [], error=-16),
    "map-error-and-runs": answer(0, [(0, 1, 15)], error=-16),
    "map-no-progress": answer(0x40, [], 0x40),
    "map-before": answer(0x40, [(0x3f, 2, 15)]),
    "map-twice": answer(0, [(0, 8, 15), (7, 1, 0)]),
    "map-mask": answer(0, [(0, 8, 16)]),
    "map-too-far": answer(0, [((1 << 40) - 1, 2, 15)]),
    "map-overflow": answer(0, [(1, END, 15)]),
    "map-fewer": answer(0, [(0, 8, 15)], n=2),
    "map-more-than-there-may-be": answer(0, [(2 * i, 1, 1) for i in range(513)]),
    "map-cut": answer(0, [(0, 8, 15)])[:-1],
    "empty": b"",
}

directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "trace")
os.makedirs(directory, exist_ok=True)
for name, data in CORPUS.items():
    with open(os.path.join(directory, name), "wb") as f:
        f.write(data)
