#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changes and rare facts: what is announced, and how often."""

from common import *


def changes(monitor, path):
    return [s["data"][1] for s in monitor.signals("PropertiesChanged", path)]


def test_only_what_has_changed_is_announced():
    monitor = Monitor(daemons)
    with running_vm() as (_, client, path, _):
        monitor.wait("PropertiesChanged", path, lambda data: data[1].get("State", {}).get("data") == "running")
        time.sleep(0.3)
        monitor.read()
        monitor.seen.clear()
        client.ok(PAUSE)
        changed = monitor.wait("PropertiesChanged", path)["data"]
        assert changed == [PARTITION, {"State": {"type": "s", "data": "paused"}}, []]
    monitor.stop()


def test_at_most_ten_changes_a_second():
    monitor = Monitor(daemons)
    with running_vm(vps=4) as (_, client, path, _):
        time.sleep(0.3)
        monitor.read()
        monitor.seen.clear()
        begin = time.monotonic()
        turns = 0
        while time.monotonic() - begin < 1.5:
            client.ok(PAUSE)
            client.ok(CONTINUE)
            turns += 1
        client.ok(PAUSE)
        monitor.wait("PropertiesChanged", path, lambda data: data[1]["State"]["data"] == "paused")
        seconds = time.monotonic() - begin
        time.sleep(0.3)
        seen = changes(monitor, path)
        assert turns > 30, "the test itself is too slow: %d turns" % turns
        assert 1 <= len(seen) <= 10 * seconds + 2, "%d signals in %.1f s" % (len(seen), seconds)
        assert seen[-1]["State"]["data"] == "paused", "the last one tells the truth"
    monitor.stop()


def test_a_killed_worker():
    monitor = Monitor(daemons)
    with running_vm() as (_, client, path, pid), running_vm() as (_, other, other_path, other_pid):
        os.kill(pid, signal.SIGKILL)
        failed = monitor.wait("WorkerFailed", path)
        assert failed["interface"] == PARTITION and failed["data"] == ["killed by signal SIGKILL"]
        changed = monitor.wait("PropertiesChanged", path, lambda data: data[1].get("State", {}).get("data") == "failed")
        assert changed["data"][1]["WorkerPid"]["data"] == 0
        assert link_hung_up(client.link) and client.closed()
        properties = daemons.get_all(path, PARTITION)
        assert (properties["State"], properties["WorkerPid"]) == ("failed", 0), "the object stays until the VMM goes"
        assert daemons.get_all(other_path, PARTITION)["State"] == "running"
        other.ok(PAUSE)
        assert process_state(other_pid) in ("S", "R"), "the other VM goes on"
        assert len(monitor.signals("WorkerFailed")) == 1
    monitor.stop()


def test_a_worker_that_crashes():
    monitor = Monitor(daemons)
    with running_vm() as (_, client, path, pid):
        os.kill(pid, signal.SIGILL)
        assert monitor.wait("WorkerFailed", path)["data"] == ["killed by signal SIGILL"]
        assert link_hung_up(client.link)
    monitor.stop()


def test_a_vmm_that_ends_before_the_death_of_its_worker_is_told():
    """Its worker's sockets close before the kernel tells vtld: the VMM has all that time to end in."""
    monitor = Monitor(daemons)
    with running_vm() as (_, client, path, pid):
        os.kill(pid, signal.SIGSTOP)
        os.kill(daemons.vtld.pid, signal.SIGSTOP)
        client.close()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: process_ended(pid), "it is dead")
        os.kill(daemons.vtld.pid, signal.SIGCONT)
        monitor.wait("InterfacesRemoved", ROOT, lambda data: data[0] == path)
        assert [s["data"] for s in monitor.signals("WorkerFailed", path)] in (
            [["has ended"]], [["killed by signal SIGKILL"]])
    monitor.stop()


def test_a_vmm_that_ends_is_no_failure_of_its_worker():
    """Whichever of the two vtld hears of first."""
    monitor = Monitor(daemons)
    for _ in range(5):
        with running_vm() as (_, client, path, pid):
            os.kill(daemons.vtld.pid, signal.SIGSTOP)
            client.close()
            wait_for(lambda: process_ended(pid), "its worker has ended")
            os.kill(daemons.vtld.pid, signal.SIGCONT)
            monitor.wait("InterfacesRemoved", ROOT, lambda data: data[0] == path)
    assert not monitor.signals("WorkerFailed")
    monitor.stop()


def test_vtld_survives_the_end_of_the_bus():
    own = Daemons()
    vm, late = Vm(name="early"), Vm(name="late")
    with own.client() as c, own.client() as d:
        c.bring_up(vm)
        own.dbus.kill()
        own.dbus.wait()
        d.bring_up(late)
        c.ok(PAUSE)
        assert own.vtld.poll() is None
        own.start_bus()
        wait_for(lambda: own.busctl("status", "org.vtld1", check=False).returncode == 0, "vtld is back on the bus")
        names = sorted(name for _, name, _ in own.call(ROOT, MANAGER, "ListPartitions")[0])
        assert names == ["early", "late"]
        assert own.get(own.partition_path(vm.uuid), PARTITION, "State") == "paused"
    own.stop()
    vm.close()
    late.close()


run(globals())
