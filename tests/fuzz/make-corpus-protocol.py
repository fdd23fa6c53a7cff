#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-protocol: the conversations that a VMM may have with vtld."""

import os
import struct
import sys

MESSAGE, FRAMED, STARTED, BROKEN, ATTACHED = range(5)
VERSION, ATTACH, VP, START, DETACH, PAUSE, CONTINUE, SAVE, RESTORE, RESET, ADD_MEMORY = range(1, 12)
OTHER, SMALL, SAME_FILE, UNSEALED, READ_ONLY, WRITE_SEALED = 1, 8, 16, 32, 64, 128


def step(what, command=0, payload=b"", fds=(), answer=0):
    return struct.pack("=BBBBH", what, command, len(fds), answer, len(payload)) + bytes(fds) + payload


def framed(command, payload=b"", fds=(), answer=0):
    return step(FRAMED, command, payload, fds, answer)


def version(major=1, minor=0, control=1):
    return framed(VERSION, struct.pack("=HHIQIIII", major, minor, control, 0, 0, 0, 0, 0))


def attach(*args, **more):
    """ATTACH, and the answer to it when the VM's owner takes it"""
    return attaching(*args, **more) + step(ATTACHED)


def attaching(vps=1, name=b"vm", regions=((0, 1 << 21, 0),), bits=40, flags=0, fds=None, answer=0, uuid=b"u" * 16):
    ids = list(range(vps)) + [0] * (64 - vps)
    payload = struct.pack("=16s64sIIIIQ64I", uuid, name, vps, len(regions), flags, bits, 2000000, *ids[:64])
    payload += b"".join(struct.pack("=QQQ", *r) for r in regions)
    return framed(ATTACH, payload, [0] * (3 + len(regions)) if fds is None else fds, answer)


def vp(index, fd=0):
    return framed(VP, struct.pack("=II", index, 0), [fd])


def started(error=0):
    return step(STARTED, answer=error)


UP = version() + attach() + vp(0) + framed(START) + started()

CORPUS = {
    "version": version(),
    "version-other-major": version(2) + version(),
    "version-other-control": version(control=2),
    "version-twice": version() + version(),
    "no-version": attach(),
    "attach": version() + attach(),
    "attach-two-vps": version() + attach(2) + vp(1) + vp(0) + framed(START) + started(),
    "attach-64-vps": version() + attach(64) + vp(63),
    "attach-no-vps": version() + attach(0),
    "attach-two-regions": version() + attach(regions=((0, 1 << 20, 0), (1 << 32, 1 << 20, 1 << 20))),
    "attach-one-file": version() + attach(regions=((0, 1 << 20, 0), (1 << 32, 1 << 20, 1 << 20)),
                                          fds=[0, 0, 0, SAME_FILE, SAME_FILE]),
    "attach-shared-pages": version() + attach(regions=((0, 1 << 20, 0), (1 << 32, 1 << 20, 0)),
                                              fds=[0, 0, 0, SAME_FILE, SAME_FILE]),
    "attach-overlap": version() + attach(regions=((0, 8192, 0), (4096, 8192, 0))),
    "attach-unaligned": version() + attach(regions=((1, 8192, 0),)),
    "attach-wraps": version() + attach(regions=(((1 << 64) - 4096, 8192, 0),)),
    "attach-far": version() + attach(regions=((1 << 40, 4096, 0),)),
    "attach-name": version() + attach(name="größe".encode()),
    "attach-bad-name": version() + attach(name=b"\xff\n"),
    "attach-refused": version() + attach(answer=17) + attach(),
    "attach-refused-later": version() + attaching() + step(ATTACHED, answer=1) + attach() + vp(0),
    "attach-unanswered": version() + attaching() + vp(0) + framed(DETACH),
    "attach-twice": version() + attach() + attach(),
    "attach-no-fds": version() + attach(fds=[]),
    "vp-twice": version() + attach() + vp(0) + vp(0),
    "vp-none": version() + attach() + vp(7),
    "vp-wrong-fd": version() + attach() + vp(0, OTHER),
    "start": UP,
    "start-early": version() + attach() + framed(START),
    "start-refused": version() + attach() + vp(0) + framed(START, answer=5) + framed(START) + started(),
    "start-failed": version() + attach() + vp(0) + framed(START) + started(5) + framed(START) + started(),
    "start-unanswered": version() + attach() + vp(0) + framed(START) + framed(PAUSE),
    "pause": UP + framed(PAUSE) + framed(CONTINUE) + framed(CONTINUE),
    "detach": UP + framed(DETACH) + attach() + framed(DETACH),
    "detach-paused": UP + framed(PAUSE) + framed(DETACH),
    "not-offered": UP + b"".join(framed(c, b"x" * c, [0] * c) for c in (SAVE, RESTORE, RESET, ADD_MEMORY)),
    "unknown": version() + framed(0) + framed(12) + framed(255, b"xyz", [0, 0]),
    "broken": version() + step(BROKEN),
    "frame-short": step(MESSAGE, payload=b"\1\0\1\0"),
    "frame-size": step(MESSAGE, payload=struct.pack("=HHIII", 1, 1, 99, 0, 0)),
    "frame-flags": step(MESSAGE, payload=struct.pack("=HHIII", 1, 1, 16, 1, 0)),
    "frame-fds": step(MESSAGE, payload=b"", fds=[0, 0, 0]),
}
for name, bit in (("type", OTHER), ("small", SMALL), ("unsealed", UNSEALED), ("read-only", READ_ONLY),
                  ("write-sealed", WRITE_SEALED)):
    for place in range(4):
        FDS = [0] * 4
        FDS[place] = bit
        CORPUS["attach-fd%d-%s" % (place, name)] = version() + attach(fds=FDS)

directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "corpus", "protocol")
os.makedirs(directory, exist_ok=True)
for name, data in CORPUS.items():
    with open(os.path.join(directory, name), "wb") as f:
        f.write(data)
