#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens when something runs out: connections, descriptors, address space, the worker itself."""

import resource

from common import *


@contextlib.contextmanager
def limited(number, value):
    """A resource limit of the running vtld."""
    old = resource.prlimit(daemons.vtld.pid, number)
    resource.prlimit(daemons.vtld.pid, number, (value, old[1]))
    try:
        yield
    finally:
        resource.prlimit(daemons.vtld.pid, number, old)


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_too_many_connections():
    own = Daemons("--max-vms=1")
    clients = [own.client() for _ in range(33)]
    for c in clients:
        c.version()
    extra = own.client()
    assert extra.closed(), "the next one is closed"
    extra.close()
    clients[0].close()

    def accepted():
        with own.client() as c:
            c.send(VERSION, VERSION_BODY.pack(MAJOR, MINOR, CONTROL_VERSION, 0, 0, 0, 0, 0))
            return c.receive()
    wait_for(accepted, "there is room again")
    for c in clients[1:]:
        c.close()
    own.nothing_leaked()
    own.stop()


def test_no_descriptor_for_a_connection():
    before = cpu_seconds(daemons.vtld.pid)
    with limited(resource.RLIMIT_NOFILE, daemons.idle_fds):
        c = daemons.client()
        time.sleep(1.5)
        assert cpu_seconds(daemons.vtld.pid) - before < 0.5, "vtld does not spin"
    c.version()
    c.close()
    assert "cannot accept a connection: Too many open files" in daemons.log()


def test_no_descriptor_for_what_a_message_brings():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        with limited(resource.RLIMIT_NOFILE, daemons.fd_count() + 2):
            reply = c.call_broken(ATTACH, vm.payload(), vm.fds())
            assert reply.error == errno.EBADF and "could be received" in reply.text
            assert c.closed()
    vm.close()


def test_memory_that_the_worker_cannot_map():
    vm = Vm()
    size = 1 << 47
    vm.phys_bits = 52
    vm.regions = [(0, size, 0)]
    os.close(vm.ram[0])
    vm.ram[0] = memfd(0, 0)
    os.ftruncate(vm.ram[0], size)
    fcntl.fcntl(vm.ram[0], F_ADD_SEALS, SEAL_SHRINK)
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        c.add_vps(vm)
        c.refused(errno.ENOMEM, "cannot map guest memory: Cannot allocate memory", START)
        c.refused(errno.ENOMEM, "cannot map guest memory", START)
        assert daemons.get(daemons.partition_path(vm.uuid), "org.vtld1.Partition", "State") == "attached"
        c.ok(DETACH)
    vm.close()
    wait_for(lambda: not daemons.workers(), "no worker is left")


def test_a_worker_that_ends_while_it_starts():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        c.add_vps(vm)
        # Too little for the libraries of the program that the worker is.
        with limited(resource.RLIMIT_AS, 1 << 20):
            reply = c.call(START)
            assert reply.error in (errno.EIO, errno.ENOMEM), reply.text
        c.start()
    vm.close()


run(globals())
