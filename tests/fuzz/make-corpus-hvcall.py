#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-hvcall: a call of every kind in every form, and what goes wrong.

usage: make-corpus-hvcall.py DIRECTORY

The layout is struct seed of fuzz-hvcall.c, the codes are those of tests/unit/hvcall-side.h.
"""

import pathlib
import struct
import sys

SEED = "<8BHHIQQQQQ"  # up to the XMM registers
FAST = 1 << 16
REAL, USER, NO_XMM_IN, NO_XMM_OUT = 0x08, 0x10, 0x02, 0x04
BITS_32, UNPRIVILEGED, FAILS = 0x01, 0x20, 0x40
PAGE = 0x1000

SIMPLE_IN, SIMPLE_IN_OUT, SIMPLE_OUT, SIMPLE_VARIABLE = 1, 2, 3, 4
REP_IN, REP_SMALL, REP_GET, REP_SET, REP_VARIABLE, REP_BATCH = 7, 8, 9, 10, 11, 12
REP_NO_HEADER, REP_ONLY_OUT, VTL_CALL, VTL_RETURN, PRIVILEGED = 13, 15, 0x11, 0x12, 0x20


def control(code, count=0, start=0, varhdr=0, fast=False):
    return code | (FAST if fast else 0) | varhdr << 17 | count << 32 | start << 48


def seed(call, *, mode=0, forbidden=0, io_fault=0, io_status=0, fail_with=0, batch=0, prepare=0,
         places=0, fail_at=0, yields=0, gpa_in=0, gpa_out=PAGE, rax=0, body=b""):
    head = struct.pack(SEED, mode, forbidden, io_fault, io_status, fail_with, batch, prepare,
                       places, fail_at, 0, 1, yields, call, gpa_in, gpa_out, rax)
    xmm = bytes(range(96)) if call & FAST or body else b""
    return head + xmm + body


HEADER = b"\xff" * 8 + b"\xfe\xff\xff\xff" + bytes(4)

CORPUS = {
    "simple-in": seed(SIMPLE_IN, body=HEADER),
    "simple-in-out": seed(SIMPLE_IN_OUT),
    "simple-out-last-bytes": seed(SIMPLE_OUT, gpa_out=PAGE - 8),
    "simple-variable": seed(control(SIMPLE_VARIABLE, varhdr=2)),
    "simple-fast": seed(control(SIMPLE_IN_OUT, fast=True)),
    "simple-fast-rdx": seed(control(SIMPLE_OUT, fast=True)),
    "simple-same-page": seed(SIMPLE_IN_OUT, gpa_out=24),
    "simple-overlap": seed(SIMPLE_IN_OUT, gpa_out=16),
    "simple-unaligned": seed(SIMPLE_IN_OUT, gpa_in=4),
    "simple-straddling": seed(SIMPLE_IN_OUT, gpa_out=2 * PAGE - 16),
    "simple-beyond": seed(SIMPLE_IN_OUT, places=3, gpa_in=1 << 52, gpa_out=1 << 63),
    "simple-unreadable": seed(SIMPLE_IN_OUT, forbidden=1),
    "simple-read-only-output": seed(SIMPLE_IN_OUT, forbidden=2 << 2),
    "simple-fails": seed(SIMPLE_IN_OUT, mode=FAILS, fail_with=5),
    "simple-unprivileged": seed(PRIVILEGED, mode=UNPRIVILEGED),
    "simple-32": seed(SIMPLE_IN_OUT, mode=BITS_32),
    "simple-32-fast": seed(control(SIMPLE_IN, fast=True), mode=BITS_32),
    "simple-with-count": seed(control(SIMPLE_IN, count=1)),
    "rep-in": seed(control(REP_IN, count=3), body=HEADER + bytes(24)),
    "rep-in-full-page": seed(control(REP_IN, count=510)),
    "rep-in-fast": seed(control(REP_IN, count=12, fast=True)),
    "rep-small-fast-merge": seed(control(REP_SMALL, count=5, start=2, fast=True)),
    "rep-get": seed(control(REP_GET, count=3), body=HEADER),
    "rep-get-fast": seed(control(REP_GET, count=4, fast=True)),
    "rep-get-fails": seed(control(REP_GET, count=4), mode=FAILS, fail_at=2, fail_with=0x50),
    "rep-set-32": seed(control(REP_SET, count=4), mode=BITS_32),
    "rep-variable": seed(control(REP_VARIABLE, count=4, varhdr=3)),
    "rep-batch": seed(control(REP_BATCH, count=9), batch=4),
    "rep-batch-fails": seed(control(REP_BATCH, count=9, start=2), batch=4, prepare=8),
    "rep-no-header": seed(control(REP_NO_HEADER, count=8, fast=True)),
    "rep-only-out-fast": seed(control(REP_ONLY_OUT, count=28, start=3, fast=True)),
    "rep-continued": seed(control(REP_GET, count=20), yields=0x5),
    "rep-continued-32": seed(control(REP_SMALL, count=20), mode=BITS_32, yields=0x1),
    "rep-late-start": seed(control(REP_IN, count=3, start=3)),
    "rep-write-lost": seed(control(REP_GET, count=3), io_fault=2, io_status=3),
    "fast-no-xmm": seed(control(REP_GET, count=1, fast=True), mode=NO_XMM_IN | NO_XMM_OUT),
    "vtl-call": seed(VTL_CALL),
    "vtl-return-32": seed(VTL_RETURN, mode=BITS_32),
    "vtl-call-fast-bit": seed(VTL_CALL | FAST),
    "real-mode-user": seed(SIMPLE_IN, mode=REAL | USER),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in CORPUS.items():
        assert len(data) < 300, name
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
