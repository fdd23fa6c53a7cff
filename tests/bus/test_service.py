#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit and what belongs to it, as far as can be said without a service manager."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import tap
from tap import Skip

SRCDIR = os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", "..")
BUILDDIR = os.environ.get("builddir") or os.path.join(SRCDIR, "build")


def unit():
    """The built unit, with a program that is there."""
    with open(os.path.join(BUILDDIR, "data", "vtld.service")) as f:
        text = f.read()
    assert "@libexecdir@" not in text
    return re.sub(r"(?m)^ExecStart=.*$", "ExecStart=" + os.path.abspath(os.path.join(BUILDDIR, "vtld")), text)


def analyze(*arguments):
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze here")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "vtld.service")
        with open(path, "w") as f:
            f.write(unit())
        return subprocess.run(["systemd-analyze", "--no-pager", *arguments, path], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def members(group, seen=()):
    """System calls of a group like @system-service, or the call itself."""
    if not group.startswith("@"):
        return {group}
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze here")
    out = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", group], text=True, check=True,
                         stdout=subprocess.PIPE).stdout
    calls = set()
    for line in (line.strip() for line in out.splitlines()):
        if line.startswith("@") and line != group and line not in seen:
            calls |= members(line, seen + (group,))
        elif line and line[0] not in "@#":
            calls.add(line)
    return calls


def test_the_unit_is_understood():
    answer = analyze("verify", "--man=no")
    assert answer.returncode == 0 and not answer.stdout.strip(), answer.stdout


def test_the_unit_is_confined():
    answer = analyze("security", "--offline=true", "--threshold=10")
    assert answer.returncode == 0, answer.stdout


def test_the_filter_of_the_unit_lets_a_worker_work():
    allowed = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit()):
        for group in line.lstrip("~").split():
            allowed = allowed - members(group) if line.startswith("~") else allowed | members(group)
    with open(os.path.join(SRCDIR, "daemon", "sandbox.c")) as f:
        wanted = set(re.findall(r"SCMP_SYS\((\w+)\)", f.read()))
    assert len(wanted) > 15
    wanted |= {"seccomp", "prctl", "fork", "clone", "clone3", "execve", "socketpair", "pidfd_open", "fcntl", "waitid"}
    assert wanted <= allowed, "not allowed: %s" % sorted(wanted - allowed)


def test_the_names_agree():
    parsers = []
    for name in "vtld.service", "org.vtld1.service":
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str
        parser.read(os.path.join(BUILDDIR, "data", name))
        parsers.append(parser)
    service, activation = parsers
    assert service["Service"]["BusName"] == activation["D-BUS Service"]["Name"] == "org.vtld1"
    assert activation["D-BUS Service"]["SystemdService"] == "vtld.service"
    assert activation["D-BUS Service"]["Exec"] == "/bin/false", "only the service manager starts vtld"
    assert service["Service"]["KillMode"] == "process", "workers outlive the broker"
    with open(os.path.join(SRCDIR, "data", "vtld.sysusers")) as f:
        assert "\nu %s " % service["Service"]["User"] in f.read()


tap.main(globals())
