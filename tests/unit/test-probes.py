#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The static tracepoints are in the programs as vtl-probes(7) describes them: read from .note.stapsdt."""

import os
import re
import struct
import subprocess
import sys

SRCDIR = os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", "..")
BUILDDIR = os.environ.get("builddir") or os.path.join(SRCDIR, "build")
sys.path.insert(0, os.path.join(SRCDIR, "tests", "lib"))

from tap import Skip, main  # noqa: E402

ENGINE = {"switch", "hypercall", "hypercall_done", "intercept", "vina", "exit"}
FILES = {"vtld": ENGINE, "vtlrun": ENGINE, ".libs/libvtlvmm.so": {"switch"}}
NT_STAPSDT = 3


def documented():
    """Arguments by name of the probe, from the manual page."""
    with open(os.path.join(SRCDIR, "man", "vtl-probes.7")) as f:
        section = f.read().split(".Sh PROBES")[1].split(".Sh ")[0]
    found = re.findall(r"^\.It Cm (\S+) Ar (.*)$", section, re.MULTILINE)
    return {name: arguments.split() for name, arguments in found}


def note_section(path):
    """The bytes of .note.stapsdt, or None."""
    out = subprocess.run(["readelf", "--sections", "--wide", path], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    for line in out.splitlines():
        m = re.match(r"\s*\[\s*\d+\] \.note\.stapsdt\s+NOTE\s+\S+ (\S+) (\S+)", line)
        if m:
            with open(path, "rb") as f:
                f.seek(int(m[1], 16))
                return f.read(int(m[2], 16))
    return None


def probes_of(name):
    """[(provider, probe, [argument])] of a file of the build."""
    path = os.path.join(BUILDDIR, name)
    if not os.path.exists(path):
        path = os.path.join(BUILDDIR, ".libs", os.path.basename(name))
    data = note_section(path)
    if data is None:
        return []
    found, at = [], 0
    while at + 12 <= len(data):
        owner, size, kind = struct.unpack_from("=III", data, at)
        begin = at + 12 + (owner + 3 & ~3)
        if kind == NT_STAPSDT and data[at + 12:at + 12 + owner] == b"stapsdt\0":
            # Three addresses, then three strings
            provider, probe, arguments = data[begin + 24:begin + size].split(b"\0")[:3]
            found.append((provider.decode(), probe.decode(), arguments.decode().split()))
        at = begin + (size + 3 & ~3)
    return found


def need_probes():
    with open(os.path.join(BUILDDIR, "Makefile")) as f:
        if not re.search(r"^PROBES_CPPFLAGS = .*-DVTL_WITH_PROBES=1", f.read(), re.MULTILINE):
            raise Skip("built without probes")


def test_the_manual_page_names_them():
    assert set(documented()) == ENGINE, sorted(documented())
    assert all(arguments[0] == "vp" for arguments in documented().values())


def test_every_file_has_its_probes():
    need_probes()
    for name, expected in FILES.items():
        found = probes_of(name)
        assert {provider for provider, _, _ in found} == {"vtld"}, (name, found)
        assert {probe for _, probe, _ in found} == expected, (name, found)


def test_arguments():
    need_probes()
    for name in FILES:
        for _, probe, arguments in probes_of(name):
            wanted = documented()[probe]
            assert len(arguments) == len(wanted), (name, probe, arguments, wanted)
            # "SIZE@OPERAND", a negative size for a signed one: an integer that a tracer can read
            for a in arguments:
                assert re.fullmatch(r"-?[1248]@\S+", a), (name, probe, a)


def test_addresses_are_64_bits():
    """What may be a guest's address or value is not cut."""
    need_probes()
    wide = {"control", "rip", "what", "result"}
    for name in FILES:
        for _, probe, arguments in probes_of(name):
            for argument, what in zip(arguments, documented()[probe]):
                if what in wide:
                    assert argument.split("@")[0] == "8", (name, probe, what, argument)


def test_both_ways_of_a_switch():
    need_probes()
    switches = [a for _, probe, a in probes_of("vtld") if probe == "switch"]
    assert len(switches) >= 2, switches
    assert len([a for _, probe, a in probes_of("vtlrun") if probe == "switch"]) >= len(switches) + 1, \
        "those of the engine, and the hot path's"


if __name__ == "__main__":
    main(globals())
