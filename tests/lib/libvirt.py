# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtld with a vtld-libvirt that the test plays: what it tells, when it dies, and what it is asked."""

import os
import shutil
import signal
import socket
import stat
import struct

from vtld import TIMEOUT, Daemons, program

# daemon/libvirt-proto.h
STATE, DOMAIN, GONE, QUERY = range(1, 5)
CONNECTING, CONNECTED, FAILED = range(1, 4)
INACTIVE, RUNNING, PAUSED, CRASHED = range(4)
MESSAGE = struct.Struct("=IIII16s36s256s")

# vtld finds it beside itself. What it reads from one socket goes to the other. It lives in the filter of
# system calls that the broker has.
RELAY = """#!/usr/bin/python3
import os, select, socket, sys
vtld = socket.socket(fileno=int(sys.argv[1].split("=")[1]))
test = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
test.connect(os.path.join(os.path.dirname(sys.argv[0]), "control"))
test.send(b"%d" % os.getpid())
poll = select.poll()
for s in vtld, test:
    poll.register(s, select.POLLIN)
while True:
    for fd, _ in poll.poll():
        s = vtld if fd == vtld.fileno() else test
        data = s.recv(65536)
        if not data:
            sys.exit(5)
        (test if s is vtld else vtld).send(data)
"""


class PlayedLibvirt:
    """The helper's side; accept() waits until vtld has started one, and says that it is connected."""

    def __init__(self, directory):
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(os.path.join(directory, "control"))
        self.listening.listen()
        self.listening.settimeout(TIMEOUT)
        self.socket = None
        self.pid = 0

    def accept(self, *domains):
        """The next helper; tells @domains, and that these are all."""
        if self.socket:
            self.socket.close()
        self.socket, _ = self.listening.accept()
        self.socket.settimeout(TIMEOUT)
        self.pid = int(self.socket.recv(100))
        self.state(CONNECTING)
        for d in domains:
            self.domain(**d)
        self.state(CONNECTED)

    def send(self, data):
        self.socket.send(data)

    def state(self, state, text=b""):
        self.send(MESSAGE.pack(STATE, state, 0, 0, bytes(16), b"", text))

    def domain(self, uuid, name="played", policy="", state=RUNNING, run=1, pid=0):
        self.send(MESSAGE.pack(DOMAIN, state, pid, run if state else 0, uuid.bytes, policy.encode(), name.encode()))

    def gone(self, uuid):
        self.send(MESSAGE.pack(GONE, 0, 0, 0, uuid.bytes, b"", b""))

    def asked(self):
        """The UUID that vtld asks about, as bytes"""
        kind, _, _, _, uuid, _, _ = MESSAGE.unpack(self.socket.recv(1000))
        assert kind == QUERY
        return uuid

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def stop(self):
        for s in self.socket, self.listening:
            if s:
                s.close()


class PlayedDaemons(Daemons):
    """As Daemons, with self.libvirt a PlayedLibvirt that has told @domains."""

    def __init__(self, *options, domains=(), helper=True, **more):
        self.helper, self.domains = helper, domains
        self.libvirt = None
        super().__init__("--libvirt-uri=played:///", *options, **more)

    def vtld_program(self):
        copy = os.path.join(self.directory, "vtld")
        shutil.copy(program("vtld"), copy)
        if self.helper:
            path = os.path.join(self.directory, "vtld-libvirt")
            with open(path, "w") as f:
                f.write(RELAY)
            os.chmod(path, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
            self.libvirt = PlayedLibvirt(self.directory)
        return copy

    def await_notification(self, expected, times=1):
        super().await_notification(expected, times)
        if self.helper and self.libvirt and not self.libvirt.socket:
            self.libvirt.accept(*self.domains)

    def libvirt_state(self):
        return self.get("/org/vtld1", "org.vtld1.Manager", "LibvirtState")

    def stop(self):
        super().stop()
        if self.libvirt:
            self.libvirt.stop()
