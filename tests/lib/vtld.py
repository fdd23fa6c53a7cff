# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private bus, a vtld on it, and a VMM's side of the attach protocol, for tests.

Programs come from $builddir (the build) and files from $srcdir; both have defaults for runs by hand.
"""

import array
import atexit
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid as uuid_module

# pylint: disable=unused-import
from processes import process_ended, process_state
from tap import Skip, diag

SRCDIR = os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", "..")
BUILDDIR = os.environ.get("builddir") or os.path.join(SRCDIR, "build")

TIMEOUT = float(os.environ.get("VTLD_TEST_TIMEOUT", "20"))

# vmm/protocol.h
MAJOR, MINOR = 1, 0
VERSION, ATTACH, VP, START, DETACH, PAUSE, CONTINUE, SAVE, RESTORE, RESET, ADD_MEMORY = range(1, 12)
REPLY, ERROR = 0x01, 0x20
HEADER = struct.Struct("=HHIII")
VERSION_BODY = struct.Struct("=HHIQIIII")
ATTACH_BODY = struct.Struct("=16s64sIIIIQ64I")
REGION = struct.Struct("=QQQ")
VP_BODY = struct.Struct("=II")
STARTED_BODY = struct.Struct("=IIII")
MAX_MESSAGE, MAX_VPS, MAX_REGIONS = 4096, 64, 32

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16
KVM_CREATE_VM = 0xAE01


def program(name):
    """Path of a built program; the environment may name another one ($VTLD, $VTLCTL)."""
    path = os.environ.get(name.upper()) or os.path.join(BUILDDIR, name)
    if not os.access(path, os.X_OK):
        raise RuntimeError("no program %s; set builddir" % path)
    return path


def need_helper():
    """Skip in a build without libvirt; else where vtld-libvirt is: beside vtld."""
    path = os.path.join(os.path.dirname(program("vtld")), "vtld-libvirt")
    if not os.access(path, os.X_OK):
        raise Skip("built without libvirt")
    return path


def control_layout():
    """Offsets and values of vtl/control.h, by name."""
    out = subprocess.run([os.path.join(BUILDDIR, "tests", "lib", "control-layout")], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


LAYOUT = control_layout()
CONTROL_VERSION = LAYOUT["VTL_CONTROL_VERSION"]
CONTROL_HEADER, CONTROL_VP, PAGE = LAYOUT["VTL_CONTROL_HEADER_SIZE"], LAYOUT["VTL_CONTROL_VP_SIZE"], 4096


def wait_for(condition, what, timeout=TIMEOUT):
    """Polls until @condition() is true, and returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("timeout: " + what)
        time.sleep(0.01)


# ---- Files of a VM ----

def memfd(size, seals=SEAL_SHRINK | SEAL_GROW, name="test", flags=0):
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def kvm_vm():
    """A KVM VM, or Skip."""
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise Skip("/dev/kvm: " + e.strerror)
    try:
        return fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    except OSError as e:
        raise Skip("KVM_CREATE_VM: " + e.strerror)
    finally:
        os.close(kvm)


# Without KVM this is a VM to a vtld that is started with it (tests/lib/fake-vm.c): its broker looks at the
# descriptor and closes it, and nothing else in vtld cares.
FAKE_VM = os.path.join(BUILDDIR, "tests", "lib", ".libs", "fakevm.so")


def fake_vm_environment():
    """What makes a vtld take a fake VM, where there is no real one."""
    if os.access("/dev/kvm", os.R_OK | os.W_OK) or not os.path.exists(FAKE_VM):
        return {}
    asan = [os.environ[v] for v in ("ASAN_OPTIONS",) if v in os.environ]
    return {"LD_PRELOAD": os.path.abspath(FAKE_VM), "ASAN_OPTIONS": ":".join(asan + ["verify_asan_link_order=0"])}


def any_vm():
    """A KVM VM, or what vtld takes for one."""
    return os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC) if fake_vm_environment() else kvm_vm()


def need_vm():
    """Skip before anything has been started that Skip would leave behind."""
    os.close(any_vm())


def control_size(vps):
    return CONTROL_HEADER + vps * CONTROL_VP


def overlay_size(vps):
    return (4 + vps * 6) * PAGE


class Vm:
    """What a VMM has and says about its VM. Every part can be replaced before attach()."""

    def __init__(self, vps=1, name="test-vm", uuid=None, memory=1 << 21):
        self.uuid = uuid or uuid_module.uuid4()
        self.name = name.encode() if isinstance(name, str) else name
        self.vps = vps
        self.flags = 0
        self.phys_bits = 40
        self.tsc_khz = 2000000
        self.apic_ids = list(range(vps))
        self.vm = any_vm()
        self.control = memfd(control_size(vps))
        self.overlay = memfd(overlay_size(vps))
        self.regions = [(0, memory, 0)]
        self.ram = [memfd(memory, SEAL_SHRINK)]
        self.kicks = [os.pipe2(os.O_CLOEXEC) for _ in range(vps)]
        self.n_regions = None  # when not len(regions)

    def fds(self):
        return [self.vm, self.control, self.overlay] + self.ram

    def payload(self):
        ids = (self.apic_ids + [0] * MAX_VPS)[:MAX_VPS]
        n = len(self.regions) if self.n_regions is None else self.n_regions
        body = ATTACH_BODY.pack(self.uuid.bytes, self.name, self.vps, n, self.flags, self.phys_bits,
                                self.tsc_khz, *ids)
        return body + b"".join(REGION.pack(*r) for r in self.regions)

    def control_write(self, field, data, vp=None):
        """Writes to the control memory: field "header.X", or "vp.X" of a VP."""
        base = 0 if vp is None else CONTROL_HEADER + vp * CONTROL_VP
        os.pwrite(self.control, struct.pack("=I", data) if isinstance(data, int) else data, base + LAYOUT[field])

    def control_read(self, field, vp=None):
        base = 0 if vp is None else CONTROL_HEADER + vp * CONTROL_VP
        return struct.unpack("=I", os.pread(self.control, 4, base + LAYOUT[field]))[0]

    def wrmsr(self, msr, value, vp=0):
        """The engine serves VTL0's write of an MSR, as if the library had passed it on."""
        self.control_write("vp.exit.kind", LAYOUT["VTL_EXIT_WRMSR"], vp=vp)
        self.control_write("vp.exit.msr", msr, vp=vp)
        self.control_write("vp.exit.data", struct.pack("=Q", value), vp=vp)
        self.control_write("vp.mailbox", LAYOUT["VTL_MAILBOX_EXIT"], vp=vp)
        wait_for(lambda: self.control_read("vp.mailbox", vp=vp) == LAYOUT["VTL_MAILBOX_ACTION"], "the engine answers")
        assert self.control_read("vp.action.kind", vp=vp) != LAYOUT["VTL_ACTION_STOP"]
        self.control_write("vp.mailbox", LAYOUT["VTL_MAILBOX_IDLE"], vp=vp)

    def crash(self, parameters, vp=0):
        """VTL0 says by HV_X64_MSR_CRASH_P0-P4 and CRASH_CTL that it has crashed."""
        for i, value in enumerate(parameters):
            self.wrmsr(0x40000100 + i, value, vp)
        self.wrmsr(0x40000105, 1 << 63, vp)

    def close(self):
        for fd in set(self.fds()) | {f for pair in self.kicks for f in pair}:
            with contextlib.suppress(OSError):
                os.close(fd)


# ---- The VMM's side of the protocol ----

class Reply:
    def __init__(self, data, fds):
        self.id, self.command, self.size, self.flags, self.error = HEADER.unpack_from(data)
        assert self.size == len(data), "size in the reply's header"
        assert self.flags & 0x0F == REPLY, "the reply is one"
        assert self.flags in (REPLY, REPLY | ERROR)
        self.payload = data[HEADER.size:]
        self.fds = fds
        self.text = ""
        if self.flags & ERROR:
            assert self.error > 0
            assert self.payload.endswith(b"\0") and self.payload.index(b"\0") == len(self.payload) - 1
            self.text = self.payload[:-1].decode("ascii")
            assert self.text, "an error says why"
            assert not fds
        else:
            assert self.error == 0

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Client:
    """One connection to the attach socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(path)
        self.next_id = 100
        self.link = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        if self.link >= 0:
            os.close(self.link)
            self.link = -1

    def send_raw(self, data, fds=()):
        self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])

    def send(self, command, payload=b"", fds=(), flags=0, error=0, size=None):
        self.next_id += 1
        size = HEADER.size + len(payload) if size is None else size
        self.send_raw(HEADER.pack(self.next_id & 0xFFFF, command, size, flags, error) + payload, fds)

    def receive(self):
        """The next reply, or None at the end of the stream."""
        fds = array.array("i")
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(16))
        except ConnectionResetError:
            return None
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        return Reply(data, list(fds)) if data else None

    def call(self, command, payload=b"", fds=(), **header):
        self.send(command, payload, fds, **header)
        reply = self.receive()
        assert reply is not None, "vtld closed the connection"
        assert reply.id == self.next_id & 0xFFFF and reply.command == command, "id and command are echoed"
        return reply

    def call_broken(self, command, payload=b"", fds=()):
        """A message that vtld cannot receive as it was sent: the answer is to no command in particular."""
        self.send(command, payload, fds)
        return self.receive()

    def ok(self, command, payload=b"", fds=(), **header):
        reply = self.call(command, payload, fds, **header)
        assert reply.error == 0, "refused: %s (%s)" % (reply.text, os.strerror(reply.error))
        return reply

    def refused(self, errno, text, command, payload=b"", fds=(), **header):
        """A command that vtld must answer with @errno and a text that contains @text."""
        reply = self.call(command, payload, fds, **header)
        assert reply.error == errno, "error %d (%s), expected %d" % (reply.error, reply.text, errno)
        assert text in reply.text, "text %r, expected %r" % (reply.text, text)
        return reply

    def version(self, major=MAJOR, minor=MINOR, control=CONTROL_VERSION, rest=(0, 0, 0, 0, 0)):
        return self.ok(VERSION, VERSION_BODY.pack(major, minor, control, *rest))

    def attach(self, vm):
        return self.ok(ATTACH, vm.payload(), vm.fds())

    def add_vps(self, vm):
        for i, (_, write_end) in enumerate(vm.kicks):
            self.ok(VP, VP_BODY.pack(i, 0), [write_end])

    def start(self):
        """Returns (flags, pid of the worker); the rest of the reply is in self."""
        reply = self.ok(START)
        assert len(reply.fds) == 1, "START is answered with the worker link"
        self.link = reply.fds[0]
        flags, pid, self.reserve_mappings, self.vina_poll_us = STARTED_BODY.unpack(reply.payload)
        return flags, pid

    def bring_up(self, vm):
        self.version()
        self.attach(vm)
        self.add_vps(vm)
        return self.start()

    def closed(self):
        """vtld has closed its side, and says nothing more."""
        return self.receive() is None


def link_hung_up(link, timeout=TIMEOUT):
    poll = select.poll()
    poll.register(link, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(timeout * 1000))


# ---- Daemons ----

class Daemons:
    """A private dbus-daemon with the shipped bus policy, and vtld on it."""

    def __init__(self, *options, policy=None, environment=None, user=None):
        self.user = os.getuid() if user is None else user
        self.directory = tempfile.mkdtemp(prefix="vtld-test-")
        os.chmod(self.directory, 0o755)
        os.chown(self.directory, self.user, -1)
        self.socket_path = os.path.join(self.directory, "attach.sock")
        self.log_path = os.path.join(self.directory, "vtld.log")
        self.policy_path = os.path.join(self.directory, "policy.conf")
        self.config_path = self.write("vtld.conf", "")
        self.notifications = []
        self.lock = threading.Lock()
        self.vtld = None
        self.dbus = None
        atexit.register(self.stop)
        if policy is not None:
            self.write_policy(policy)
            options += ("--policy=" + self.policy_path,)
        else:
            options += ("--policy=" + self.write_policy("[match all]\nname=*\nallow-vtl1=yes\n"),)
        self.start_bus()
        self.start_vtld(options, environment)

    def write_policy(self, text):
        return self.write("policy.conf", text)

    def write(self, name, data):
        """A file of the test's directory, whole or not at all."""
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        os.replace(path + ".new", path)
        return path

    def start_bus(self):
        if not shutil.which("dbus-daemon"):
            raise RuntimeError("no dbus-daemon")
        config = os.path.join(self.directory, "bus.conf")
        self.address = "unix:path=" + os.path.join(self.directory, "bus")
        with open(config, "w") as f:
            f.write("""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
  <policy user="%d"><allow own="org.freedesktop.PolicyKit1"/></policy>
  <include>%s</include>
  <policy user="%d"><allow own="org.vtld1"/><allow send_destination="org.vtld1"/></policy>
  <policy user="%d"><allow own="org.freedesktop.machine1"/></policy>
  <policy context="default"><allow send_destination="org.freedesktop.machine1"/></policy>
</busconfig>
""" % (self.address, os.getuid(), os.path.abspath(os.path.join(SRCDIR, "data", "org.vtld1.conf")), self.user,
       os.getuid()))
        self.dbus = subprocess.Popen(["dbus-daemon", "--config-file=" + config, "--nofork", "--nopidfile",
                                      "--print-address=1"],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.dbus.stdout.readline(), "dbus-daemon does not start"

    def vtld_program(self):
        return program("vtld")

    def start_vtld(self, options, environment=None):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        notify_path = os.path.join(self.directory, "notify%d" % len(self.notifications))
        notify.bind(notify_path)
        os.chown(notify_path, self.user, -1)
        self.notifications.append("")
        threading.Thread(target=self.listen_to_notifications, args=(notify,), daemon=True).start()
        times = self.count("READY=1") + 1
        with open(self.log_path, "ab") as log:
            self.vtld = subprocess.Popen([self.vtld_program(), "--config=" + self.config_path,
                                          "--socket-path=" + self.socket_path,
                                          "--bus=" + self.address, "--log-level=debug", "--libvirt-uri=",
                                          *options],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         user=None if self.user == os.getuid() else self.user,
                                         env={**os.environ, **fake_vm_environment(), **(environment or {}),
                                              "NOTIFY_SOCKET": notify_path})
        self.await_notification("READY=1", times)
        self.idle_fds = self.settled_fd_count()

    def listen_to_notifications(self, notify):
        """What vtld tells the service manager; it waits when nobody reads it."""
        while True:
            lines = notify.recv(4096).decode().split("\n")
            with self.lock:
                self.notifications += lines

    def await_notification(self, expected, times=1):
        """Until vtld has said something for the nth time."""
        def said():
            with self.lock:
                return self.notifications.count(expected) >= times
        try:
            wait_for(lambda: said() or self.vtld.poll() is not None, expected)
            assert said() or wait_for(said, expected, 1)
        except AssertionError:
            raise AssertionError("vtld did not say %s: %s" % (expected, self.log()))

    def count(self, notification):
        with self.lock:
            return self.notifications.count(notification)

    def reload(self):
        """SIGHUP; the policy has been read when this returns."""
        times = self.count("READY=1") + 1
        self.vtld.send_signal(signal.SIGHUP)
        self.await_notification("READY=1", times)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def fd_count(self):
        return len(os.listdir("/proc/%d/fd" % self.vtld.pid))

    def settled_fd_count(self):
        """As fd_count(), once it has stopped changing."""
        last = None
        while last != self.fd_count():
            last = self.fd_count()
            time.sleep(0.05)
        return last

    def nothing_leaked(self):
        """vtld has as many descriptors open as when it started, once all connections are closed."""
        try:
            wait_for(lambda: self.fd_count() == self.idle_fds, "descriptors of vtld")
        except AssertionError:
            fds = "/proc/%d/fd" % self.vtld.pid
            raise AssertionError("vtld had %d descriptors, has %d: %s" % (
                self.idle_fds, self.fd_count(), [os.readlink(os.path.join(fds, f)) for f in os.listdir(fds)]))

    def workers(self):
        """Processes that vtld has started and that still run."""
        with open("/proc/%d/task/%d/children" % (self.vtld.pid, self.vtld.pid)) as f:
            pids = [int(p) for p in f.read().split()]
        return [p for p in pids if process_state(p) not in ("Z", "")]

    def client(self):
        return Client(self.socket_path)

    def busctl(self, *arguments, check=True):
        return subprocess.run(["busctl", "--address=" + self.address, *arguments], check=check, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)

    def call(self, path, interface, method, *arguments):
        """A method's answer as Python values."""
        out = self.busctl("--json=short", "call", "org.vtld1", path, interface, method, *arguments).stdout
        return json.loads(out)["data"] if out.strip() else None

    def get(self, path, interface, name):
        out = self.busctl("--json=short", "get-property", "org.vtld1", path, interface, name).stdout
        return json.loads(out)["data"]

    def get_all(self, path, interface):
        answer = self.call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface)[0]
        return {name: value["data"] for name, value in answer.items()}

    def partition_path(self, uuid):
        return self.call("/org/vtld1", "org.vtld1.Manager", "GetPartition", "s", str(uuid))[0]

    def stop(self):
        if self.vtld and self.vtld.poll() is None:
            self.vtld.send_signal(signal.SIGTERM)
            try:
                self.vtld.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.vtld.kill()
                self.vtld.wait()
        if self.dbus and self.dbus.poll() is None:
            self.dbus.terminate()
            self.dbus.wait()
        if os.environ.get("VTLD_TEST_KEEP"):
            diag("kept " + self.directory)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)


class Monitor:
    """Signals of org.vtld1, as they come: dicts with path, interface, member and data."""

    def __init__(self, daemons):
        self.process = subprocess.Popen(
            ["busctl", "--address=" + daemons.address, "--json=short", "monitor",
             "--match=type='signal',path_namespace='/org/vtld1'"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.seen = []
        self.rest = ""
        line = self.process.stderr.readline()
        assert "Monitoring" in line, "busctl monitor: " + line
        os.set_blocking(self.process.stdout.fileno(), False)

    def read(self):
        try:
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return
        self.rest += chunk.decode()
        *lines, self.rest = self.rest.split("\n")
        for line in lines:
            if not line.strip():
                continue
            message = json.loads(line)
            self.seen.append({"path": message.get("path"), "interface": message.get("interface"),
                              "member": message.get("member"),
                              "data": message.get("payload", {}).get("data")})

    def signals(self, member, path=None):
        self.read()
        return [s for s in self.seen if s["member"] == member and (path is None or s["path"] == path)]

    def wait(self, member, path=None, condition=lambda data: True, timeout=TIMEOUT):
        """The first signal of this name that fulfils @condition."""
        def find():
            return next((s for s in self.signals(member, path) if condition(s["data"])), None)
        try:
            return wait_for(find, "signal " + member, timeout)
        except AssertionError:
            raise AssertionError("no signal %s; seen: %s" % (member, [(s["member"], s["data"]) for s in self.seen]))

    def stop(self):
        self.process.terminate()
        self.process.wait()
