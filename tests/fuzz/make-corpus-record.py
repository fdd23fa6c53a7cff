#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-record: records of VMs, and names of descriptors."""

import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SEALED, NAME, AS_IT_IS = 0, 1, 2
MAGIC = 0x6472636572646C74
HEAD = struct.Struct("<QIIIIQQ")
EVENT = struct.Struct("<IIQQ48s")
BODY = struct.Struct("<8I2Q16s64s64I256s36sI36s6I768s192sII48s48s48sI4Q")
UUID = bytes(range(1, 17))
CURRENT = 0  # what the target puts in place of a version


def event(kind=3, vp=0, data=(0, 0), digest=b"\x11" * 48):
    return EVENT.pack(kind, vp, *data, digest)


def record(flags=0xFF, options=0x7F, generation=1, state=2, vps=2, vmm=100, uid=1000, worker=200, uuid=UUID,
           name=b"vm", ids=(0, 1), domain=b"", policy=b"", run=0, rule=b"all", enforcement=(0, 0), strict=0,
           n_measurements=0, refusal=b"", measured=1, n_events=None, events=(), numbers=(1 << 26, 9, 8, 0),
           sequence=1, version=CURRENT, worker_version=CURRENT, control=CURRENT, size=None, magic=MAGIC):
    tail = b"".join(events)
    body = BODY.pack(flags, options, generation, state, vps, vmm, uid, worker, 1 << 50, 3, uuid, name,
                     *(list(ids) + [0] * 64)[:64], domain, policy, run, rule, 0, *enforcement, 256, strict,
                     n_measurements, b"\x22" * 768, refusal, measured, len(events) if n_events is None else n_events,
                     b"\x33" * 48, b"\x44" * 48, b"\x55" * 48, 0,
                     *numbers) + tail
    whole = HEAD.size + len(body)
    return HEAD.pack(magic, version, worker_version, control, whole if size is None else size, sequence, 0) + body


def places(first=b"", second=b"", how=SEALED):
    """The target cuts what it is given in halves."""
    n = max(len(first), len(second))
    return bytes([how]) + first.ljust(n, b"\0") + second.ljust(n, b"\0")


def name(text):
    return bytes([NAME]) + text.encode()


TEXT = "01020304-0506-0708-090a-0b0c0d0e0f10"

CORPUS = {
    "one": places(b"", record()),
    "two": places(record(sequence=2, state=3), record()),
    "events": places(b"", record(events=[event(0), event(1), event(2), event(3), event(4), event(5)])),
    "event-unknown": places(b"", record(events=[event(6)])),
    "log-full": places(b"", record(events=[event()] * 256)),
    "log-too-full": places(b"", record(events=[event()] * 257)),
    "log-short": places(b"", record(n_events=3, events=[event()])),
    "stopped": places(b"", record(state=4)),
    "failed": places(b"", record(state=5)),
    "libvirt": places(b"", record(domain="größe".encode(), policy=b"hardened", run=3)),
    "libvirt-bad": places(b"", record(domain=b"\xff", policy=b"a b", run=3)),
    "no-name": places(b"", record(name=b"")),
    "name-long": places(b"", record(name=b"n" * 63)),
    "name-endless": places(b"", record(name=b"n" * 64)),
    "behind-the-name": places(b"", record(name=b"n\0x")),
    "vps-most": places(b"", record(vps=64, ids=range(64))),
    "vps-many": places(b"", record(vps=65)),
    "vps-none": places(b"", record(vps=0)),
    "nil": places(b"", record(uuid=bytes(16))),
    "pids": places(record(vmm=0), record(worker=0xFFFFFFFF, sequence=2)),
    "flags": places(b"", record(flags=0x100)),
    "options": places(b"", record(options=0x80)),
    "enforcement": places(b"", record(enforcement=(2, 1), strict=65536)),
    "enforcement-bad": places(b"", record(enforcement=(3, 2), strict=65537)),
    "measurements": places(b"", record(n_measurements=16, refusal=b"its measurement is another")),
    "measurements-many": places(b"", record(n_measurements=17)),
    "decided": places(b"", record(numbers=(0, 1, 2, 0))),
    "version": places(b"", record(version=0xFFFFFFFF)),
    "version-worker": places(b"", record(worker_version=0xFFFFFFFF)),
    "version-control": places(b"", record(control=1)),
    "size-small": places(b"", record(size=40)),
    "size-large": places(b"", record(size=0xFFFFFFFF)),
    "magic": places(b"", record(magic=0)),
    "torn": places(record(sequence=2), record(), how=AS_IT_IS),
    "nothing": bytes([SEALED]),
    "name": name("vm-%s-record" % TEXT),
    "name-pid": name("vm-%s-worker-pid" % TEXT),
    "name-upper": name("vm-%s-record" % TEXT.upper()),
    "name-part": name("vm-%s-recor" % TEXT),
    "name-attach": name("attach"),
    "name-nothing": name(""),
}

folder = os.path.join(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "corpus"), "record")
os.makedirs(folder, exist_ok=True)
for key, value in CORPUS.items():
    with open(os.path.join(folder, key), "wb") as f:
        f.write(value)
