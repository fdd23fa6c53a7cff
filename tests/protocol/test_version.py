#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VERSION: the first message, and what it agrees on."""

from common import *


def pack(major=MAJOR, minor=MINOR, control=CONTROL_VERSION, rest=(0, 0, 0, 0, 0)):
    return VERSION_BODY.pack(major, minor, control, *rest)


def test_version_is_answered_with_what_is_offered():
    with daemons.client() as c:
        reply = c.ok(VERSION, pack())
        major, minor, control, commands, vps, regions, message, reserved = VERSION_BODY.unpack(reply.payload)
        assert (major, minor, control) == (MAJOR, MINOR, CONTROL_VERSION)
        assert (vps, regions, message, reserved) == (MAX_VPS, MAX_REGIONS, MAX_MESSAGE, 0)
        offered = {n for n in range(64) if commands >> n & 1}
        assert offered == {VERSION, ATTACH, VP, START, DETACH, PAUSE, CONTINUE}


def test_a_later_minor_version_is_answered_with_ours():
    with daemons.client() as c:
        reply = c.ok(VERSION, pack(minor=77))
        assert VERSION_BODY.unpack(reply.payload)[:2] == (MAJOR, MINOR)


def test_another_major_version_is_refused():
    for major in 0, 2, 0xFFFF:
        with daemons.client() as c:
            c.refused(errno.EPROTONOSUPPORT, "major version 1", VERSION, pack(major=major))


def test_after_a_refusal_another_version_can_be_proposed():
    with daemons.client() as c:
        c.refused(errno.EPROTONOSUPPORT, "major", VERSION, pack(major=9))
        c.ok(VERSION, pack())


def test_another_layout_of_the_control_memory_is_refused():
    with daemons.client() as c:
        c.refused(errno.EPROTONOSUPPORT, "not of one version", VERSION, pack(control=CONTROL_VERSION + 1))


def test_reserved_fields_must_be_zero():
    for i in range(5):
        with daemons.client() as c:
            rest = [0] * 5
            rest[i] = 1
            c.refused(errno.EINVAL, "reserved", VERSION, pack(rest=rest))


def test_version_comes_once():
    with daemons.client() as c:
        c.version()
        c.refused(errno.EBADFD, "agreed on already", VERSION, pack())


def test_version_comes_first():
    for command in ATTACH, VP, START, DETACH, PAUSE, CONTINUE, SAVE, RESTORE, RESET, ADD_MEMORY:
        with daemons.client() as c:
            c.refused(errno.EBADFD, "VERSION must come first", command)


def test_wrong_sizes_are_refused():
    for payload in b"", pack()[:-1], pack() + b"\0":
        with daemons.client() as c:
            c.refused(errno.EMSGSIZE, "size", VERSION, payload)


def test_version_has_no_descriptors():
    with daemons.client() as c:
        fd = memfd(4096)
        c.refused(errno.EBADF, "number of descriptors", VERSION, pack(), [fd])
        os.close(fd)


run(globals())
