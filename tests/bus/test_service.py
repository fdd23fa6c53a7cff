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
        shutil.copy(os.path.join(SRCDIR, "data", "vtld.socket"), directory)
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
    answer = analyze("security", "--offline=true", "--threshold=5")  # of 100
    assert answer.returncode == 0, answer.stdout


def test_the_filter_of_the_unit_lets_a_worker_work():
    allowed = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit()):
        for group in line.lstrip("~").split():
            allowed = allowed - members(group) if line.startswith("~") else allowed | members(group)
    wanted = set()
    for name in "sandbox.c", "sandbox-broker.c", "libvirt-sandbox.c":
        with open(os.path.join(SRCDIR, "daemon", name)) as f:
            calls = set(re.findall(r"SCMP_SYS\((\w+)\)", f.read()))
        assert len(calls) > 15
        wanted |= calls
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


def test_the_socket_is_the_one_that_the_program_knows():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(os.path.join(SRCDIR, "data", "vtld.socket"))
    listener = parser["Socket"]
    text = subprocess.run([os.path.join(BUILDDIR, "vtld"), "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
    option = next(line for line in text.splitlines() if "--socket-path=" in line)
    assert option.endswith("(default %s)" % listener["ListenSequentialPacket"]), option
    with open(os.path.join(SRCDIR, "daemon", "activation.c")) as f:
        assert '{ "%s", ' % listener["FileDescriptorName"] in f.read()
    assert listener["SocketMode"] == "0660" and listener["SocketGroup"] == "vtld"


def test_the_next_one_can_have_all_vms():
    """Six descriptors of each, for the largest max-vms there is"""
    def constant(path, pattern):
        with open(os.path.join(SRCDIR, "daemon", path)) as f:
            return re.search(pattern, f.read())
    limit = int(constant("config.h", r"#define CONFIG_MAX_VMS_LIMIT (\d+)u").group(1))
    parts = constant("fd-store.h", r"(?s)enum fd_store_part {(.*?)_FD_STORE_PART_MAX").group(1).count("FD_STORE_")
    stored = int(re.search(r"(?m)^FileDescriptorStoreMax=(\d+)$", unit()).group(1))
    assert parts == 6 and stored == parts * limit
    assert int(re.search(r"(?m)^LimitNOFILE=(\d+)$", unit()).group(1)) > stored


def test_no_restart_for_what_it_cannot_mend():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(os.path.join(BUILDDIR, "data", "vtld.service"))
    listed = {int(n) for n in parser["Service"]["RestartPreventExitStatus"].split()}
    # EX_USAGE, EX_DATAERR and EX_NOINPUT (the policy), EX_NOPERM (the name), EX_CONFIG (the sockets)
    assert {64, 65, 66, 77, 78} <= listed
    # EX_UNAVAILABLE (no bus yet), EX_SOFTWARE, EX_OSERR
    assert not {69, 70, 71} & listed
    with open(os.path.join(SRCDIR, "man", "vtld.8")) as f:
        statuses = f.read().partition(".Sh EXIT STATUS")[2].partition(".Sh ")[0]
    documented = {int(n) for n in re.findall(r"(?m)^\.It (\d+)$", statuses)}
    assert {0, 1, 64, 65, 66, 69, 70, 71, 77, 78} == documented


tap.main(globals())
