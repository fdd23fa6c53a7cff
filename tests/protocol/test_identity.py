#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""ATTACH waits for who the VMM is: a process of a libvirt domain attaches that domain, and no other."""

from common import *
from machined import Machined

machined = Machined(daemons)
ME = os.getpid()
TEXT = "libvirt domain of another UUID"


def attach(vm, c):
    """The reply to ATTACH, and how long it took."""
    c.version()
    begin = time.monotonic()
    reply = c.call(ATTACH, vm.payload(), vm.fds())
    return reply, time.monotonic() - begin


@contextlib.contextmanager
def machines(*args, **more):
    machined.set(*args, **more)
    try:
        yield
    finally:
        machined.set()


def served(**more):
    """A VM of this process is attached and started."""
    vm = Vm(**more)
    with daemons.client() as c:
        reply, seconds = attach(vm, c)
        assert reply.error == 0, reply.text
        c.add_vps(vm)
        c.start()
        assert daemons.get(daemons.partition_path(vm.uuid), "org.vtld1.Partition", "State") == "running"
    vm.close()
    return seconds


def test_a_process_of_no_machine():
    served()


def test_the_domain_of_the_process():
    uuid = uuid_module.uuid4()
    with machines({ME: uuid}):
        served(uuid=uuid)


def test_another_domain():
    vm, uuid = Vm(), uuid_module.uuid4()
    with machines({ME: uuid}), daemons.client() as c:
        c.version()
        c.refused(errno.EPERM, TEXT, ATTACH, vm.payload(), vm.fds())
        line = "process %d of user %d belongs to libvirt domain %s, and may not attach VM %s" % (
            ME, os.getuid(), uuid, vm.uuid)
        assert line in daemons.log()
        assert daemons.call("/org/vtld1", "org.vtld1.Manager", "ListPartitions")[0] == []
        # Nothing has changed: the right one can be attached over the same connection.
        c.refused(errno.EBADFD, "no VM is attached", START)
        c.refused(errno.EPERM, TEXT, ATTACH, vm.payload(), vm.fds())
        vm.uuid = uuid
        c.attach(vm)
        c.add_vps(vm)
        c.start()
    vm.close()


def test_a_process_becomes_that_of_a_domain():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        c.ok(DETACH)
        with machines({ME: uuid_module.uuid4()}):
            c.refused(errno.EPERM, TEXT, ATTACH, vm.payload(), vm.fds())
    vm.close()


def test_containers_and_other_machines_are_no_domains():
    for service, kind in ("systemd-nspawn", "container"), ("libvirt-lxc", "container"), ("systemd-vmspawn", "vm"):
        with machines({ME: {"uuid": str(uuid_module.uuid4()), "service": service, "class": kind}}):
            served()


def test_a_machine_of_another_process():
    with machines({ME + 1: uuid_module.uuid4()}):
        served()


def test_machined_fails():
    for error in "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.ServiceUnknown", "x.y":
        with machines({ME: uuid_module.uuid4()}, error=error):
            served()


def test_machined_does_not_answer():
    with machines({ME: uuid_module.uuid4()}, silent=True):
        assert served() >= 1.5
        assert "machined has not said in time which domain it is of" in daemons.log()


def test_machined_takes_a_while():
    vm = Vm()
    with machines({ME: uuid_module.uuid4()}, delay=0.3), daemons.client() as c:
        reply, seconds = attach(vm, c)
        assert reply.error == errno.EPERM and seconds >= 0.3
    vm.close()


def test_what_is_sent_meanwhile_waits():
    vm = Vm()
    with machines(delay=0.3), daemons.client() as c:
        c.version()
        c.send(ATTACH, vm.payload(), vm.fds())
        c.send(VP, VP_BODY.pack(0, 0), [vm.kicks[0][1]])
        c.send(START)
        first, second, third = c.receive(), c.receive(), c.receive()
        assert [r.command for r in (first, second, third)] == [ATTACH, VP, START]
        assert [r.error for r in (first, second, third)] == [0, 0, 0]
        third.close()
    vm.close()


def test_the_connection_closes_meanwhile():
    vm = Vm()
    with machines(silent=True):
        for _ in range(5):
            with daemons.client() as c:
                c.version()
                c.send(ATTACH, vm.payload(), vm.fds())
        daemons.nothing_leaked()
    assert daemons.call("/org/vtld1", "org.vtld1.Manager", "ListPartitions")[0] == []
    vm.close()


def test_the_process_ends_meanwhile():
    """Its answer is about a process ID that may be another's by then."""
    holder, child_end = socket.socketpair()
    with machines(delay=1):
        child = os.fork()
        if child == 0:
            c, vm = daemons.client(), Vm()
            c.version()
            c.send(ATTACH, vm.payload(), vm.fds())
            socket.send_fds(child_end, [b"x"], [c.socket.fileno()])
            os._exit(0)
        os.waitpid(child, 0)
        _, (fd,), _, _ = socket.recv_fds(holder, 1, 1)
        with socket.socket(fileno=fd) as left:
            left.settimeout(TIMEOUT)
            assert left.recv(1000) == b"", "it was not served any more"
    assert daemons.call("/org/vtld1", "org.vtld1.Manager", "ListPartitions")[0] == []
    holder.close()
    child_end.close()


def test_many_wait_at_once():
    vms = [Vm(name="vm%d" % i) for i in range(20)]
    clients = [daemons.client() for _ in vms]
    with machines(delay=0.3):
        for c, vm in zip(clients, vms):
            c.version()
            c.send(ATTACH, vm.payload(), vm.fds())
        for c in clients:
            assert c.receive().error == 0
    for c in clients:
        c.close()
    for vm in vms:
        vm.close()


def test_the_same_uuid_twice_while_both_wait():
    vms = [Vm(), Vm()]
    vms[1].uuid = vms[0].uuid
    with machines(delay=0.3), daemons.client() as a, daemons.client() as b:
        for c, vm in zip((a, b), vms):
            c.version()
            c.send(ATTACH, vm.payload(), vm.fds())
        assert sorted([a.receive().error, b.receive().error]) == [0, errno.EEXIST]
    for vm in vms:
        vm.close()


def test_machined_goes():
    before = daemons.log().count("has not said in time")
    machined.stop()
    served()
    assert daemons.log().count("has not said in time") == before, "the bus says at once that it is not there"


def end_all():
    machined.stop()
    end()


tests = {n: unchanged(f) if n.startswith("test_") and callable(f) else f for n, f in globals().items()}
tap.main(tests, end_all)
