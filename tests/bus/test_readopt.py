#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One vtld after the other: what the service manager keeps of its VMs in between, and what the next one makes of
it."""

from common import *
from libvirt import *
from machined import Machined
from manager import Manager, PARTS, PLACE

daemons.stop()
manager = Manager()


class PlayedManager(PlayedDaemons, Manager):
    """With a libvirt for each vtld"""

    def vtld_program(self):
        return os.path.join(self.directory, "vtld") if self.libvirt else super().vtld_program()


def same_object(vm, before):
    path = manager.partition_path(vm.uuid)
    now = manager.get_all(path, PARTITION)
    assert now == before, [(k, before.get(k), now.get(k)) for k in now if now[k] != before.get(k)]
    return path


def test_what_is_kept():
    with manager.vm() as (vm, _, _):
        wait_for(lambda: manager.stored(vm) == PARTS, "six descriptors")
        record = manager.fd(vm, "record")
        assert os.fstat(record).st_size == 2 * PLACE
        assert fcntl.fcntl(record, F_GET_SEALS) & 15 == SEAL_SEAL | SEAL_SHRINK | SEAL_GROW
    assert manager.names() == []


def test_nothing_is_kept_before_start():
    vm = Vm()
    with manager.client() as c:
        c.version()
        c.attach(vm)
        c.add_vps(vm)
        assert manager.names() == []
        manager.again(signal.SIGKILL)
        assert c.closed(), "what was not started ends with its vtld"
    vm.close()
    assert manager.get(ROOT, "org.vtld1.Manager", "Partitions") == 0


def send_all_there_is_room_for(stack):
    """A socket of its own has room for some messages of its own. How many were sent?"""
    other = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    other.connect(manager.notify_path)
    other.setblocking(False)
    for n in range(1 << 20):
        try:
            other.send(b"X_VTLD_TEST=1")
        except BlockingIOError:
            return n
    return 0


def test_nothing_is_kept_of_a_start_that_was_not_answered():
    """vtld is killed after it has started the worker, and before it could tell anybody."""
    vm = Vm()
    with manager.client() as c, contextlib.ExitStack() as others:
        c.version()
        c.attach(vm)
        c.add_vps(vm)
        with manager.lock:
            # The service manager does not read, and vtld waits for room.
            while send_all_there_is_room_for(others):
                pass
            c.send(START)
            workers = wait_for(manager.workers, "its worker")
            time.sleep(0.5)
            assert not select.select([c.socket], [], [], 0)[0], "START has no answer yet"
            manager.vtld.kill()
            manager.vtld.wait()
        assert c.closed()
        wait_for(lambda: process_ended(workers[0]), "its worker ends")
        # One message may have found room, and is behind many others.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.connect(manager.notify_path)
            last.send(b"X_VTLD_TEST=last")
        manager.await_notification("X_VTLD_TEST=last", 1)
        manager.start()
        manager.forgotten()
    with manager.vm(uuid=vm.uuid):
        pass
    vm.close()


def the_next_one(how):
    with manager.vm(vps=3, name="größe") as (vm, client, pid), manager.vm(name="other") as (other, _, other_pid):
        vm.control_write("header.enabled_vtls", 3)
        before = manager.get_all(manager.partition_path(vm.uuid), PARTITION)
        manager.again(how)
        assert manager.get(ROOT, "org.vtld1.Manager", "Partitions") == 2, "as soon as it is ready"
        path = same_object(vm, before)
        assert before["Name"] == "größe" and before["WorkerPid"] == pid and before["State"] == "running"
        assert set(managed_of(manager)) >= {path, path + "/vp/0", path + "/vp/1", path + "/vp/2"}
        manager.adopted(vm, pid)
        manager.adopted(other, other_pid)
        assert process_state(pid) in "SR" and not link_hung_up(client.link, 0.2)
        # The VMM's connection is that of before.
        client.ok(PAUSE)
        assert manager.get(path, PARTITION, "State") == "paused"
        client.ok(CONTINUE)
        assert manager.get(path, PARTITION, "State") == "running"
        # What the guest does is still seen.
        vm.control_write("header.enabled_vtls", 1)
        assert manager.get(path, PARTITION, "EnabledVtls") == 1
    manager.says("VM %s is gone" % vm.uuid)
    assert manager.names() == []
    manager.vms_are_closed()


def managed_of(service):
    return service.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]


def test_after_a_kill():
    the_next_one(signal.SIGKILL)


def test_after_an_ordinary_end():
    the_next_one(signal.SIGTERM)


def test_again_and_again():
    with manager.vm() as (vm, client, pid):
        before = manager.get_all(manager.partition_path(vm.uuid), PARTITION)
        for how in signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL:
            manager.again(how)
            same_object(vm, before)
        client.ok(PAUSE)
        manager.again(signal.SIGKILL)
        path = manager.partition_path(vm.uuid)
        assert manager.get(path, PARTITION, "State") == "paused", "it stays as it was"
        client.refused(errno.EBADFD, "paused", PAUSE)
        client.ok(CONTINUE)


def test_detach_and_another_vm():
    with manager.vm() as (vm, client, pid):
        manager.again(signal.SIGKILL)
        client.ok(DETACH)
        manager.gone(vm)
        wait_for(lambda: process_ended(pid), "its worker ends")
        assert link_hung_up(client.link)
        other = Vm(uuid=vm.uuid, name="again")
        os.close(client.link)
        client.attach(other)
        client.add_vps(other)
        client.start()
        wait_for(lambda: manager.stored(other) == PARTS, "the new one is kept")
        manager.again(signal.SIGKILL)
        assert manager.get(manager.partition_path(vm.uuid), PARTITION, "Name") == "again"
        other.close()


def test_commands_wait_for_the_next_one():
    with manager.vm() as (vm, client, _):
        manager.end(signal.SIGKILL)
        client.send(PAUSE)
        manager.start()
        reply = client.receive()
        assert reply and reply.error == 0 and reply.id == client.next_id & 0xFFFF
        assert manager.get(manager.partition_path(vm.uuid), PARTITION, "State") == "paused"


def test_events_that_find_no_room():
    """Some hundreds of them wait. The guest never does: each is told by the engine while it serves an exit."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    room = 0
    with contextlib.suppress(BlockingIOError):
        while ours.send(bytes(128)):
            room += 1
    ours.close()
    theirs.close()
    with manager.vm() as (vm, client, pid):
        manager.end(signal.SIGKILL)
        for _ in range(room + 50):
            vm.wrmsr(0x40000105, 1 << 63)  # HV_X64_MSR_CRASH_CTL: the guest says that it has crashed
        manager.start()
        manager.adopted(vm, pid)
        path = manager.partition_path(vm.uuid)
        assert manager.get(path, PARTITION, "Crashes") == room + 50
        assert "VM %s: VTL0 reports that it has crashed" % vm.uuid in manager.log(), "the first ones were heard of"
        vm.wrmsr(0x40000105, 1 << 63)
        client.ok(PAUSE)
        client.ok(CONTINUE)


def test_a_vmm_that_ends_meanwhile():
    for close in True, False:
        vm = Vm()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                c = manager.client()
                _, pid = c.bring_up(vm)
                os.write(writer, struct.pack("=I", pid))
                signal.pause()
            os._exit(1)
        pid = struct.unpack("=I", os.read(reader, 4))[0]
        manager.kept(vm)
        manager.end(signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        if close:
            os.waitpid(child, 0)
        wait_for(lambda: process_ended(pid), "the worker ends with its VMM")
        manager.start()
        manager.gone(vm)
        manager.says("VM %s is gone, since before" % vm.uuid)
        manager.forgotten()
        if not close:
            os.waitpid(child, 0)
        vm.close()
        for fd in reader, writer:
            os.close(fd)


def test_a_worker_that_ends_meanwhile():
    with manager.vm() as (vm, client, pid):
        manager.end(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        assert link_hung_up(client.link)
        manager.start()
        assert client.closed(), "as when it ends with a vtld there"
        path = manager.partition_path(vm.uuid)
        wait_for(lambda: manager.get(path, PARTITION, "State") == "failed", "the bus says so")
        manager.says("VM %s: its worker has ended" % vm.uuid)
        wait_for(lambda: not manager.stored(vm), "another vtld could do nothing with it")


def test_a_worker_that_ends_later():
    with manager.vm() as (vm, client, pid):
        manager.again(signal.SIGKILL)
        manager.adopted(vm, pid)
        monitor = Monitor(manager)
        os.kill(pid, signal.SIGKILL)
        path = manager.partition_path(vm.uuid)
        assert monitor.wait("WorkerFailed", path)["data"] == ["has ended"]
        assert client.closed()
        monitor.stop()


def test_a_worker_that_does_not_end():
    with manager.vm() as (vm, client, pid):
        manager.again(signal.SIGKILL)
        manager.adopted(vm, pid)
        os.kill(pid, signal.SIGSTOP)
        client.ok(DETACH)
        wait_for(lambda: process_ended(pid), "it is killed")
        manager.says("worker %d does not end, killing it" % pid)


def test_a_worker_that_does_not_answer():
    with manager.vm() as (vm, client, pid):
        os.kill(pid, signal.SIGSTOP)
        manager.again(signal.SIGKILL)
        manager.says("VM %s is left to its worker, and not shown any more: its worker does not answer" % vm.uuid)
        manager.gone(vm)
        assert client.closed()
        manager.forgotten()
        os.kill(pid, signal.SIGCONT)
        assert not link_hung_up(client.link, 0.5), "it serves on"
        assert process_state(pid) in "SR"


def test_policy_holds_for_what_runs():
    manager.write_policy("[match first]\nname=*\nallow-vtl1=yes\n")
    manager.reload()
    with manager.vm() as (vm, _, _):
        before = manager.get_all(manager.partition_path(vm.uuid), PARTITION)
        assert before["PolicyName"] == "first" and before["Vtl1Allowed"] is True
        manager.end(signal.SIGKILL)
        manager.write_policy("[match second]\nname=*\nallow-vtl1=no\n")
        manager.start()
        same_object(vm, before)
        with manager.vm() as (other, _, _):
            properties = manager.get_all(manager.partition_path(other.uuid), PARTITION)
            assert properties["PolicyName"] == "second" and properties["Vtl1Allowed"] is False
    manager.write_policy("[match all]\nname=*\nallow-vtl1=yes\n")
    manager.reload()


def test_its_domain():
    """What is known of it stays, until the new helper says something else, or nothing."""
    own = PlayedManager()
    machined = Machined(own)
    for end in "gone", "stopped", "another run":
        vm = Vm()
        own.libvirt.domain(vm.uuid, policy="hardened", run=3)
        machined.set({os.getpid(): vm.uuid})
        with own.client() as c:
            c.version()
            c.send(ATTACH, vm.payload(), vm.fds())
            assert own.libvirt.asked() == vm.uuid.bytes
            own.libvirt.domain(vm.uuid, policy="hardened", run=3)
            assert c.receive().error == 0
            c.add_vps(vm)
            c.start()
            path = own.partition_path(vm.uuid)
            own.again(signal.SIGKILL)
            assert own.get(path, PARTITION, "LibvirtDomain") == "played"
            assert own.get(path, PARTITION, "LibvirtPolicy") == "hardened"
            own.libvirt.accept({"uuid": vm.uuid, "policy": "other", "run": 3})
            wait_for(lambda: own.get(path, PARTITION, "LibvirtPolicy") == "other", "libvirt is heard")
            own.again(signal.SIGKILL)
            assert own.get(path, PARTITION, "LibvirtPolicy") == "other"
            told = {"gone": [], "stopped": [{"uuid": vm.uuid, "state": INACTIVE}],
                    "another run": [{"uuid": vm.uuid, "run": 4}]}[end]
            own.libvirt.accept(*told)
            assert c.closed()
            own.says("VM %s: its domain has stopped" % vm.uuid if end != "another run" else
                     "VM %s: detached: its domain runs again" % vm.uuid)
            own.forgotten()
        vm.close()
    machined.stop()
    own.stop()


def test_they_count():
    own = Manager("--max-vms=1")
    with own.vm() as (vm, _, _):
        own.again(signal.SIGKILL)
        other = Vm()
        with own.client() as c:
            c.version()
            c.refused(errno.EUSERS, "as many VMs", ATTACH, other.payload(), other.fds())
        same = Vm(uuid=vm.uuid)
        with own.client() as c:
            c.version()
            c.refused(errno.EEXIST, "attached already", ATTACH, same.payload(), same.fds())
        other.close()
        same.close()
    own.stop()


def test_no_end_when_idle():
    own = Manager("--exit-idle-time=1")
    with own.vm():
        own.again(signal.SIGKILL)
        time.sleep(2.5)
        assert own.vtld.poll() is None, "it has a VM"
    assert own.vtld.wait(TIMEOUT) == 0
    own.stop()


def test_stopped_for_good():
    """systemctl stop: systemd forgets what it kept, and everybody goes on without a vtld."""
    with manager.vm() as (vm, client, pid):
        manager.end(signal.SIGTERM)
        manager.forget()
        assert client.closed()
        assert not link_hung_up(client.link, 0.5) and process_state(pid) in "SR"
        manager.start()
        assert manager.get(ROOT, "org.vtld1.Manager", "Partitions") == 0
        os.close(client.link)
        client.link = -1
        wait_for(lambda: process_ended(pid), "the worker ends with its VMM")


def test_quotes_go_on():
    with tempfile.TemporaryDirectory() as directory:
        own = Manager("--host-key=" + os.path.join(directory, "key.pem"))
        with own.vm() as (vm, _, _):
            path = own.partition_path(vm.uuid)
            nonce = ["ay", "16"] + [str(i) for i in range(16)]
            before = own.call(path, PARTITION, "Quote", *nonce)
            own.again(signal.SIGKILL)
            assert own.call(path, PARTITION, "Quote", *nonce) == before
        own.stop()


tap.main(globals(), manager.stop)
