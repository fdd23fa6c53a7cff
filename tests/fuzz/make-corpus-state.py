#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the corpus of fuzz-state from the blobs in tests/unit: whole, cut, and without each section.

usage: make-corpus-state.py PARTITION.state FOLDER
"""

import pathlib
import struct
import sys

HEAD = struct.Struct("<4sIIIQ")


def sections(blob):
    at = 8
    while at < len(blob):
        name, _, index, _, size = HEAD.unpack_from(blob, at)
        end = at + HEAD.size + size + -size % 8
        yield name.decode().strip().lower(), index, at, end
        at = end


def main():
    blob = pathlib.Path(sys.argv[1]).read_bytes()
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    small = blob
    for name, index, at, end in reversed(list(sections(blob))):
        if name in ("over", "msrs", "port"):
            small = small[:at] + small[end:]
    (folder / "whole").write_bytes(blob)
    (folder / "without-pages").write_bytes(small)
    for name, index, at, end in sections(small):
        (folder / f"no-{name}-{index}").write_bytes(small[:at] + small[end:])
        (folder / f"cut-{name}-{index}").write_bytes(small[: (at + end) // 2])


if __name__ == "__main__":
    main()
