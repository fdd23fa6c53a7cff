#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""PAUSE, CONTINUE, DETACH, and the ends that a VM may come to."""

from common import *


def state(vm):
    return daemons.get(daemons.partition_path(vm.uuid), "org.vtld1.Partition", "State")


def test_pause_and_continue():
    vm = Vm()
    with daemons.client() as c:
        c.bring_up(vm)
        assert state(vm) == "running"
        c.refused(errno.EBADFD, "runs", CONTINUE)
        c.ok(PAUSE)
        assert state(vm) == "paused"
        c.refused(errno.EBADFD, "paused", PAUSE)
        c.ok(CONTINUE)
        assert state(vm) == "running"
    vm.close()


def test_pause_needs_a_vm_that_runs():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.refused(errno.EBADFD, "no VM is attached", PAUSE)
        c.refused(errno.EBADFD, "no VM is attached", CONTINUE)
        c.attach(vm)
        c.refused(errno.EBADFD, "not been started", PAUSE)
        c.refused(errno.EBADFD, "not been started", CONTINUE)
    vm.close()


def test_sizes_and_descriptors():
    vm = Vm()
    with daemons.client() as c:
        c.bring_up(vm)
        for command in PAUSE, CONTINUE, DETACH:
            c.refused(errno.EMSGSIZE, "size", command, b"\0")
            c.refused(errno.EBADF, "number of descriptors", command, b"", [vm.control])
        assert state(vm) == "running"
    vm.close()


def test_detach_ends_the_worker():
    vm = Vm()
    with daemons.client() as c:
        _, pid = c.bring_up(vm)
        c.ok(DETACH)
        assert link_hung_up(c.link)
        wait_for(lambda: process_state(pid) == "", "the worker is waited for")
        answer = daemons.busctl("call", "org.vtld1", "/org/vtld1", "org.vtld1.Manager", "GetPartition", "s",
                                str(vm.uuid), check=False)
        assert answer.returncode != 0 and "No VM of UUID" in answer.stderr
    vm.close()


def test_detach_before_start_and_when_paused():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        c.ok(DETACH)
        c.attach(vm)
        c.add_vps(vm)
        c.start()
        c.ok(PAUSE)
        c.ok(DETACH)
        c.refused(errno.EBADFD, "no VM is attached", DETACH)
    vm.close()


def test_attach_again_over_the_same_connection():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        for _ in range(3):
            c.attach(vm)
            c.add_vps(vm)
            c.start()
            c.ok(DETACH)
            os.close(c.link)
            c.link = -1
    vm.close()
    wait_for(lambda: not daemons.workers(), "no worker is left")


def test_a_killed_worker_ends_its_connection_only():
    vm, other = Vm(), Vm()
    with daemons.client() as c, daemons.client() as d:
        _, pid = c.bring_up(vm)
        _, other_pid = d.bring_up(other)
        os.kill(pid, signal.SIGKILL)
        assert link_hung_up(c.link), "the VMM sees that its worker is gone"
        assert c.closed(), "and that its connection is"
        assert state(vm) == "failed"
        assert state(other) == "running" and process_state(other_pid) in "SR"
        assert not link_hung_up(d.link, timeout=0)
        d.ok(PAUSE)
        # Whatever such a VMM still says is dropped, with its descriptors.
        c.send(PAUSE, b"", [vm.control])
    vm.close()
    other.close()


def test_a_link_that_the_vmm_closed():
    vm = Vm()
    with daemons.client() as c:
        c.bring_up(vm)
        os.close(c.link)
        c.link = -1
        wait_for(lambda: state(vm) == "failed", "a VM without a worker has failed")
        assert c.closed()
    vm.close()


def test_a_vmm_that_ends_is_no_failure():
    vm = Vm()
    monitor = Monitor(daemons)
    with daemons.client() as c:
        c.bring_up(vm)
    vm.close()
    monitor.wait("InterfacesRemoved")
    time.sleep(0.3)
    assert not monitor.signals("WorkerFailed")
    monitor.stop()


def test_a_vmm_that_ends_while_somebody_holds_its_socket():
    need_vm()
    pids = os.pipe()
    child = os.fork()
    if child == 0:
        c = daemons.client()
        vm = Vm(name="dying")
        c.bring_up(vm)
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(60)
            os._exit(0)
        os.write(pids[1], struct.pack("=I", grandchild))
        os.kill(os.getpid(), signal.SIGKILL)
    grandchild, = struct.unpack("=I", os.read(pids[0], 4))
    os.waitpid(child, 0)
    try:
        wait_for(lambda: daemons.call("/org/vtld1", "org.vtld1.Manager", "ListPartitions")[0] == [],
                 "the VM goes with its process")
        daemons.nothing_leaked()
    finally:
        os.kill(grandchild, signal.SIGKILL)
        for fd in pids:
            os.close(fd)


def test_more_vms_than_vtld_serves():
    need_vm()
    small = Daemons("--max-vms=2")
    vms = [Vm(name="vm%d" % i) for i in range(3)]
    clients = [small.client() for _ in vms]
    for c in clients:
        c.version()
    clients[0].attach(vms[0])
    clients[1].attach(vms[1])
    clients[2].refused(errno.EUSERS, "as many VMs", ATTACH, vms[2].payload(), vms[2].fds())
    clients[0].ok(DETACH)
    clients[2].attach(vms[2])
    for c in clients:
        c.close()
    small.nothing_leaked()
    for vm in vms:
        vm.close()
    small.stop()


def test_many_vms_come_and_go():
    need_vm()
    for _ in range(20):
        vm = Vm(vps=2)
        with daemons.client() as c:
            c.bring_up(vm)
        vm.close()
    wait_for(lambda: not daemons.workers(), "no worker is left")


def test_the_worker_outlives_the_broker():
    need_vm()
    own = Daemons()
    vm = Vm()
    c = own.client()
    _, pid = c.bring_up(vm)
    own.vtld.send_signal(signal.SIGTERM)
    assert own.vtld.wait(TIMEOUT) == 0
    assert c.closed()
    time.sleep(0.2)
    assert process_state(pid) in ("S", "R"), "the guest is served on"
    assert not link_hung_up(c.link, timeout=0)
    c.close()
    wait_for(lambda: process_ended(pid), "the worker ends with its VM")
    vm.close()
    own.stop()


run(globals())
