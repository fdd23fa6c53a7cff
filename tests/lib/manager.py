# SPDX-License-Identifier: LGPL-2.1-or-later
"""A service manager with a file descriptor store, as systemd's, for a vtld after which another one comes."""

from vtld import *

PARTS = {"record", "control", "vmm", "vmm-pid", "worker", "worker-pid"}
PLACE = 24576  # daemon/record.h
# Puts the descriptors where sd_listen_fds() looks for them, and becomes the program
LAUNCHER = """
import os, sys
n, rest = int(sys.argv[1]), sys.argv[2:]
for i in range(n):
    os.dup2(1000 + i, 3 + i)
    os.close(1000 + i)
if n:
    os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), str(n)
os.execv(rest[0], rest)
"""


class Manager(Daemons):
    """Daemons whose service manager has a file descriptor store, as systemd's."""

    def __init__(self, *options, **more):
        self.store = []  # (name, descriptor), the newest first as systemd has it
        self.options = options
        super().__init__(*options, **more)

    def listen_to_notifications(self, notify):
        while True:
            fds = array.array("i")
            data, ancillary, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(64))
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(content)
            lines = data.decode().split("\n")
            with self.lock:
                self.keep(lines, list(fds))
                self.notifications += lines

    def keep(self, lines, fds):
        name = next((line[len("FDNAME="):] for line in lines if line.startswith("FDNAME=")), "stored")
        if "FDSTORE=1" in lines:
            assert "FDPOLL=0" in lines and len(fds) == 1
            self.store = [(name, fd) for fd in fds] + self.store
        elif "FDSTOREREMOVE=1" in lines:
            for n, fd in self.store:
                if n == name:
                    os.close(fd)
            self.store = [(n, fd) for n, fd in self.store if n != name]
        else:
            assert not fds

    def names(self):
        with self.lock:
            return sorted(name for name, _ in self.store)

    def stored(self, vm):
        """The parts of a VM that are kept"""
        start = "vm-%s-" % vm.uuid
        return {name[len(start):] for name in self.names() if name.startswith(start)}

    def fd(self, vm, part):
        with self.lock:
            return dict(self.store)["vm-%s-%s" % (vm.uuid, part)]

    def start_vtld(self, options, environment=None):
        with self.lock:
            store = list(self.store)
        kept = [(name, fcntl.fcntl(fd, fcntl.F_DUPFD, 1000 + i)) for i, (name, fd) in enumerate(store)]
        assert [fd for _, fd in kept] == list(range(1000, 1000 + len(kept)))
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.notify_path = path = os.path.join(self.directory, "notify%d" % len(self.notifications))
        notify.bind(path)
        self.notifications.append("")
        threading.Thread(target=self.listen_to_notifications, args=(notify,), daemon=True).start()
        times = self.count("READY=1") + 1
        with open(self.log_path, "ab") as log:
            self.vtld = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(len(kept)), self.vtld_program(), "--config=" + self.config_path,
                 "--socket-path=" + self.socket_path, "--bus=" + self.address, "--log-level=debug", "--libvirt-uri=",
                 *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[fd for _, fd in kept],
                env={**os.environ, **fake_vm_environment(), **(environment or {}), "NOTIFY_SOCKET": path,
                     "LISTEN_FDNAMES": ":".join(name for name, _ in kept)})
        for _, fd in kept:
            os.close(fd)
        self.await_notification("READY=1", times)
        self.idle_fds = self.settled_fd_count()

    def end(self, how):
        self.vtld.send_signal(how)
        self.vtld.wait(TIMEOUT)
        # What it has said to the service manager has arrived there.
        time.sleep(0.1)

    def start(self):
        self.start_vtld(self.started_with())

    def started_with(self):
        return self.options + ("--policy=" + self.policy_path,)

    def again(self, how):
        self.end(how)
        self.start()

    def forget(self):
        """As systemd does when the service is stopped"""
        with self.lock:
            for _, fd in self.store:
                os.close(fd)
            self.store = []

    def says(self, text):
        wait_for(lambda: text in self.log(), "the log says: " + text)

    def gone(self, vm):
        wait_for(lambda: self.busctl("call", "org.vtld1", "/org/vtld1", "org.vtld1.Manager", "GetPartition", "s",
                                     str(vm.uuid), check=False).returncode != 0, "the VM is not on the bus")

    def forgotten(self):
        wait_for(lambda: self.names() == [], "nothing is kept")

    def kept(self, vm):
        wait_for(lambda: self.stored(vm) == PARTS, "it is kept")

    def vms_are_closed(self):
        """Those of VMs that were taken over were there when it started."""
        wait_for(lambda: self.fd_count() < self.idle_fds, "descriptors of VMs are closed")

    @contextlib.contextmanager
    def vm(self, **more):
        """A VM that runs, and is gone afterwards. Yields (vm, client, pid of the worker)."""
        if self.vtld.poll() is not None:
            self.start()
        vm = Vm(**more)
        client = self.client()
        try:
            _, pid = client.bring_up(vm)
            yield vm, client, pid
        finally:
            client.close()
            vm.close()
            if self.vtld.poll() is None:
                self.gone(vm)
                wait_for(lambda: not self.stored(vm), "nothing is kept of a VM that is gone")

    def adopted(self, vm, pid):
        self.says("VM %s: taken over from the vtld before, worker %d" % (vm.uuid, pid))
