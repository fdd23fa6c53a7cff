#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the service manager has kept is not whole, or not what it was: such a VM is left to its worker."""

from common import *
from manager import Manager, PARTS, PLACE

daemons.stop()
manager = Manager()


def left(vm, client, pid, why):
    """The next vtld knows nothing of it, and nothing else has changed."""
    manager.start()
    manager.says("VM %s is left to its worker, and not shown any more: %s" % (vm.uuid, why))
    manager.gone(vm)
    wait_for(lambda: not manager.stored(vm), "nothing is kept")
    assert client.closed()
    assert process_state(pid) in "SR" and not link_hung_up(client.link, 0.2), "it serves on"


def test_each_part_that_is_missing():
    for part in sorted(PARTS):
        with manager.vm() as (vm, client, pid):
            manager.kept(vm)
            manager.end(signal.SIGKILL)
            with manager.lock:
                manager.keep(["FDSTOREREMOVE=1", "FDNAME=vm-%s-%s" % (vm.uuid, part)], [])
            left(vm, client, pid, "the service manager has not kept all of it")


def test_each_part_that_is_something_else():
    whys = {"record": "its record is damaged", "control": "its control memory is none",
            "vmm": "its VMM cannot be reached", "vmm-pid": "what should be a process is none",
            "worker": "its worker cannot be reached", "worker-pid": "what should be a process is none"}
    for part, why in whys.items():
        with manager.vm() as (vm, client, pid):
            manager.kept(vm)
            manager.end(signal.SIGKILL)
            with manager.lock:
                name = "vm-%s-%s" % (vm.uuid, part)
                manager.keep(["FDSTOREREMOVE=1", "FDNAME=" + name], [])
                manager.keep(["FDSTORE=1", "FDPOLL=0", "FDNAME=" + name], [memfd(4096)])
            left(vm, client, pid, why)


def test_a_part_that_is_there_twice():
    with manager.vm() as (vm, client, pid):
        manager.kept(vm)
        manager.end(signal.SIGKILL)
        with manager.lock:
            manager.store.append(("vm-%s-control" % vm.uuid, memfd(4096)))
        left(vm, client, pid, "the service manager has not kept all of it")


def test_names_of_nothing():
    with manager.vm() as (vm, _, pid):
        manager.kept(vm)
        manager.end(signal.SIGKILL)
        with manager.lock:
            for name in "vm-", "vm-%s" % vm.uuid, "vm-%s-" % vm.uuid, "vm-%s-other" % vm.uuid, "stored":
                manager.store.append((name, memfd(4096)))
        manager.start()
        manager.adopted(vm, pid)
        with manager.lock:
            for name in "vm-", "vm-%s" % vm.uuid, "vm-%s-" % vm.uuid, "vm-%s-other" % vm.uuid, "stored":
                manager.keep(["FDSTOREREMOVE=1", "FDNAME=" + name], [])


def damage(fd, offset, data):
    for place in 0, PLACE:
        os.pwrite(fd, data, place + offset)


def test_damaged_records():
    for offset, data, why in ((0, b"x", "its record is damaged"),
                              (8, b"\xff", "it was started by a vtld of another version"),
                              (12, b"\xff", "it was started by a vtld of another version"),
                              (16, b"\xff", "it was started by a vtld of another version"),
                              (200, b"\xff\xff\xff", "its record is damaged")):
        with manager.vm() as (vm, client, pid):
            manager.kept(vm)
            manager.end(signal.SIGKILL)
            damage(manager.fd(vm, "record"), offset, data)
            left(vm, client, pid, why)


def test_a_record_that_was_being_written():
    """The one before it is still there."""
    with manager.vm() as (vm, client, pid):
        client.ok(PAUSE)
        client.ok(CONTINUE)
        manager.end(signal.SIGKILL)
        record = manager.fd(vm, "record")
        newer = max((0, PLACE), key=lambda at: struct.unpack("=Q", os.pread(record, 8, at + 24)))
        os.pwrite(record, b"\xff" * 8, newer + 100)
        manager.start()
        manager.adopted(vm, pid)
        assert manager.get(manager.partition_path(vm.uuid), PARTITION, "State") == "paused"


tap.main(globals(), manager.stop)
