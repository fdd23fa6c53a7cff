# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the scenarios of the whole system begin with: `from system import *`.

They run as root in the Debian system, in the order of their names, and each finds vtld as the one
before it has left it: installed, from tests 20 on, with the socket listening and without VMs.
"""

import contextlib
import functools
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid

import dbus

HOST = os.environ.get("VTLD_SYSTEM_HOST", "/host")
sys.path.insert(0, os.path.join(HOST, "lib"))

# pylint: disable=unused-import,wrong-import-position
import tap
from processes import process_ended, process_state
from tap import Skip, diag

# This machine emulates another one that emulates guests.
TIMEOUT = 60
SOCKET = "/run/vtld/attach.sock"
POLICY = "/etc/vtld/policy.conf"
ROOT = "/org/vtld1"
MANAGER, PARTITION, PROCESSOR = "org.vtld1.Manager", "org.vtld1.Partition", "org.vtld1.VirtualProcessor"

# How vtlrun ends: by the guest's exit port, with 0 or 1; without an engine
GUEST_OK, GUEST_FAILED, ENGINE_GONE = 1, 3, 76


def run(*command, check=True, **more):
    """A command, with its output as text."""
    more = {"text": True, "timeout": TIMEOUT, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE, **more}
    answer = subprocess.run(command, check=False, **more)
    if check and answer.returncode != 0:
        raise AssertionError("%s: status %d\n%s%s" % (" ".join(command), answer.returncode, answer.stdout,
                                                      answer.stderr))
    return answer


def wait_for(condition, what, timeout=TIMEOUT):
    """Polls until @condition() is true, and returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("timeout: " + what)
        time.sleep(0.1)


# ---- systemd ----

def systemctl(*arguments, **more):
    return run("systemctl", "--no-pager", *arguments, **more)


# Programs are slow to start here: what is asked often is asked without one.
@functools.cache
def bus():
    return dbus.SystemBus()


def plain(value):
    """A value of python3-dbus as one of Python."""
    if isinstance(value, dbus.Boolean):
        return bool(value)
    if isinstance(value, (dbus.Array, dbus.Struct, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    return int(value) if isinstance(value, int) else str(value) if isinstance(value, str) else value


def unit(name, property_name):
    """One property of a unit."""
    def ask(path, interface, method, *arguments):
        return bus().call_blocking("org.freedesktop.systemd1", path, interface, method, None, arguments, timeout=TIMEOUT)
    path = ask("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "LoadUnit", name)
    return plain(ask(path, "org.freedesktop.DBus.Properties", "GetAll", "")[property_name])


def is_active(name):
    return unit(name, "ActiveState") == "active"


def main_pid():
    return unit("vtld.service", "MainPID")


@contextlib.contextmanager
def drop_in(text, name="vtld.service"):
    """Settings of a unit that are gone again afterwards; it is not restarted for them."""
    folder = "/run/systemd/system/%s.d" % name
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "test.conf")
    with open(path, "w") as f:
        f.write(text)
    systemctl("daemon-reload")
    try:
        yield
    finally:
        os.unlink(path)
        systemctl("daemon-reload")


# ---- The journal ----

MESSAGES = {}


def message_id(name):
    """The MESSAGE_ID that daemon/messages.h calls by that name."""
    if not MESSAGES:
        with open(os.path.join(HOST, "messages.h")) as f:
            MESSAGES.update(re.findall(r'#define MESSAGE_(\w+) "([0-9a-f]{32})"', f.read()))
    return MESSAGES[name]


def now():
    """For the after= of the functions below: the time of the journal's entries, in microseconds."""
    return time.time_ns() // 1000


def journal(*matches, after=0):
    """Entries that match, as dicts."""
    out = run("journalctl", "--no-pager", "-q", "-o", "json", "--all", *matches).stdout
    return [e for e in map(json.loads, out.splitlines()) if int(e["__REALTIME_TIMESTAMP"]) >= after]


class Follower:
    """What vtld has in the journal, read as it comes by one journalctl."""

    def __init__(self):
        self.process = subprocess.Popen(["journalctl", "-f", "-q", "-o", "json", "--all", "-n", "all",
                                         "SYSLOG_IDENTIFIER=vtld"], stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.entries = []
        self.rest = b""

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.process.stdout.fileno(), 1 << 16):
                *lines, self.rest = (self.rest + data).split(b"\n")
                self.entries += [json.loads(line) for line in lines]
        return self.entries


@functools.cache
def follower():
    return Follower()


def messages(name, after=0, **fields):
    """Those that have been seen by now."""
    return [e for e in follower().read() if e.get("MESSAGE_ID") == message_id(name) and
            int(e["__REALTIME_TIMESTAMP"]) >= after and all(e.get(k) == v for k, v in fields.items())]


def message(name, after=0, **fields):
    """The first message of that name, which may take a moment to be there."""
    return wait_for(lambda: messages(name, after, **fields), "message %s %s" % (name, fields))[0]


# ---- The bus ----

def busctl(*arguments, **more):
    return run("busctl", "--no-pager", *arguments, **more)


def call(path, interface, method, *arguments):
    """A method of vtld, which is started for it if need be. As call_blocking(), but by its well-known name each
    time: there may be another vtld by now."""
    return plain(bus().call_blocking("org.vtld1", path, interface, method, None, arguments, timeout=TIMEOUT))


def get_all(path, interface):
    return call(path, "org.freedesktop.DBus.Properties", "GetAll", interface)


def path_of(vm_uuid):
    return call(ROOT, MANAGER, "GetPartition", str(vm_uuid))


def partitions():
    """Names of the VMs that are attached."""
    return sorted(name for _, name, _ in call(ROOT, MANAGER, "ListPartitions"))


# ---- Policy ----

ALLOW_ALL = "[match all]\nname=*\nallow-vtl1=yes\n"


def write_policy(text):
    os.makedirs(os.path.dirname(POLICY), exist_ok=True)
    with open(POLICY, "w") as f:
        f.write(text)


# ---- Users ----

def make_users():
    """One who may open the attach socket, and one who may not"""
    for name, groups in ("vmm", "kvm,vtld"), ("stranger", "kvm"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            run("useradd", "--system", "--groups", groups, name)


# ---- Guests ----

@functools.cache
def control_layout():
    """Where things are in the control memory of a VM, as tests/lib/control-layout has printed it"""
    with open(os.path.join(HOST, "control-layout")) as f:
        return {name: int(value) for name, value in map(str.split, f)}


class Guest:
    """vtlrun with a test guest, attached to the vtld of the system. As user @user, if any."""

    def __init__(self, image, name, append="", vcpus=1, user=None, timeout=240, engine="daemon", nice=0):
        self.name = name
        self.uuid = str(uuid.uuid4())
        self.text = ""
        # A file: a pipe that nobody reads would stop the guest.
        self.output = open("/tmp/guest-%s.log" % self.uuid, "w+")
        more = {}
        if user:
            more = {"user": user, "group": user, "extra_groups": os.getgrouplist(user, pwd.getpwnam(user).pw_gid)}
        if nice:
            more["preexec_fn"] = lambda: os.nice(nice)
        self.process = subprocess.Popen(
            ["vtlrun", "--engine=" + engine, "--name", name, "--uuid", self.uuid, "--vcpus", str(vcpus), "--memory",
             "64", "--timeout", str(timeout), "--append", append, os.path.join(HOST, "guests", image + ".elf")],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT, **more)

    def said(self):
        self.output.seek(0)
        self.text = self.output.read()
        return self.text

    def wait(self, timeout=TIMEOUT * 2):
        """Its exit status"""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("the guest does not end: " + self.said())

    def is_running(self):
        return self.process.poll() is None

    def path(self):
        return path_of(self.uuid)

    def worker(self):
        """PID of its worker"""
        return get_all(self.path(), PARTITION)["WorkerPid"]

    def calls(self):
        """How many VTL calls its first VP has made"""
        return get_all(self.path() + "/vp/0", PROCESSOR)["VtlCalls"]

    def counter(self, field):
        """A field of struct vtl_vp_stats of its first VP, from its own memory: whether or not there is a broker"""
        folder = "/proc/%d/fd" % self.process.pid
        path, = [p for p in (os.path.join(folder, fd) for fd in os.listdir(folder))
                 if os.readlink(p).startswith("/memfd:vtl-control")]
        layout = control_layout()
        with open(path, "rb") as f:
            data = os.pread(f.fileno(), 8, layout["VTL_CONTROL_HEADER_SIZE"] + layout["vp.stats." + field])
        return int.from_bytes(data, "little")

    def wait_for_vtl1(self):
        return message("VTL1_ENABLED", VTLD_PARTITION=self.uuid)

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.is_running():
            self.process.kill()
        self.process.wait(TIMEOUT)
        self.output.close()


@contextlib.contextmanager
def guest(*arguments, **more):
    """A guest that does not outlive its test."""
    g = Guest(*arguments, **more)
    try:
        yield g
    except BaseException:
        diag(g.said())
        raise
    finally:
        g.end()


def long_guest(name, **more):
    """One that makes VTL calls until it is ended"""
    return guest("bench", name, append="switch=100000000", **more)


@contextlib.contextmanager
def a_service_that_runs(text=""):
    """vtld with settings of its unit changed; afterwards it is what it was, and running."""
    with drop_in(text):
        systemctl("restart", "vtld.service")
        yield
    systemctl("restart", "vtld.service")


def status_of(pid):
    """/proc/PID/status as a dict"""
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def main(namespace, cleanup=None):
    def end():
        if cleanup:
            cleanup()
        if follower.cache_info().currsize:
            follower().process.kill()
    tap.main(namespace, end)
