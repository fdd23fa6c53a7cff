#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""START: the worker, its link, and what policy has to do with it."""

from common import *


def test_start_makes_a_worker():
    vm = Vm(vps=2)
    with daemons.client() as c:
        flags, pid = c.bring_up(vm)
        assert flags == 1, "VTL1 is allowed by the policy of this test"
        assert daemons.workers() == [pid]
        with open("/proc/%d/cmdline" % pid) as f:
            assert "--worker=" in f.read()
        assert not link_hung_up(c.link, timeout=0)
        assert vm.control_read("header.enabled_vtls") == 1, "the engine has taken over the control memory: there is VTL0"
    vm.close()
    wait_for(lambda: not daemons.workers(), "the worker ends with its VM")


def test_the_worker_is_confined():
    vm = Vm()
    with daemons.client() as c:
        _, pid = c.bring_up(vm)
        with open("/proc/%d/status" % pid) as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        if "built with a sanitizer: no system call filter" in daemons.log():
            raise Skip("built with a sanitizer: no system call filter")
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2", "a filter"
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/status" % (pid, task)) as f:
                assert "Seccomp:\t2\n" in f.readlines(), "of every thread"
        fds = "/proc/%d/fd" % pid
        links = sorted(os.readlink(os.path.join(fds, f)) for f in os.listdir(fds) if int(f) > 2)
        assert [link.split(":")[0] for link in links] == ["pipe", "socket", "socket"], links
    vm.close()


def test_the_broker_keeps_nothing_of_the_guest():
    vm = Vm(vps=4)
    with daemons.client() as c:
        c.bring_up(vm)
        # The connection, the VMM's pidfd, the worker's socket, two pidfds of the worker and the record.
        wait_for(lambda: daemons.fd_count() <= daemons.idle_fds + 6, "memory and pipes are the worker's alone")
        with open("/proc/%d/maps" % daemons.vtld.pid) as f:
            shared = [line for line in f if "memfd:test" in line]
        assert len(shared) == 1 and " r--s " in shared[0], "the control memory, read-only: %s" % shared
    vm.close()


def test_not_every_vp_was_added():
    vm = Vm(vps=2)
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        c.refused(errno.EINVAL, "not every VP", START)
        c.ok(VP, VP_BODY.pack(0, 0), [vm.kicks[0][1]])
        c.refused(errno.EINVAL, "not every VP", START)
        c.ok(VP, VP_BODY.pack(1, 0), [vm.kicks[1][1]])
        c.start()
    vm.close()


def test_start_twice():
    vm = Vm()
    with daemons.client() as c:
        c.bring_up(vm)
        c.refused(errno.EBADFD, "runs", START)
    vm.close()


def test_before_attach():
    with daemons.client() as c:
        c.version()
        c.refused(errno.EBADFD, "no VM is attached", START)


def test_sizes_and_descriptors():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        c.add_vps(vm)
        c.refused(errno.EMSGSIZE, "size", START, b"\0")
        c.refused(errno.EBADF, "number of descriptors", START, b"", [vm.control])
        c.start()
    vm.close()


def test_commands_behind_start_are_served_after_it():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        c.add_vps(vm)
        c.send(START)
        c.send(PAUSE)
        c.send(CONTINUE)
        started, paused, continued = c.receive(), c.receive(), c.receive()
        assert (started.command, paused.command, continued.command) == (START, PAUSE, CONTINUE)
        assert (started.error, paused.error, continued.error) == (0, 0, 0)
        started.close()
    vm.close()


def test_the_vmm_goes_while_the_worker_starts():
    for _ in range(5):
        vm = Vm()
        with daemons.client() as c:
            c.version()
            c.attach(vm)
            c.add_vps(vm)
            c.send(START)
        vm.close()
    wait_for(lambda: not daemons.workers(), "no worker is left")


def test_a_refusing_policy_does_not_refuse_the_attach():
    daemons.write_policy("[match some]\nname=refused-*\nallow-vtl1=no\n[match rest]\nname=*\nallow-vtl1=yes\n")
    daemons.reload()
    vm, other = Vm(name="refused-1"), Vm(name="allowed")
    with daemons.client() as c, daemons.client() as d:
        assert c.bring_up(vm)[0] == 0
        assert d.bring_up(other)[0] == 1
        path = daemons.partition_path(vm.uuid)
        properties = daemons.get_all(path, "org.vtld1.Partition")
        assert (properties["PolicyName"], properties["Vtl1Allowed"]) == ("some", False)
        properties = daemons.get_all(daemons.partition_path(other.uuid), "org.vtld1.Partition")
        assert (properties["PolicyName"], properties["Vtl1Allowed"]) == ("rest", True)
    vm.close()
    other.close()


def test_a_bad_policy_leaves_the_old_one():
    daemons.write_policy("[match none-of-them]\nname=x\nallow-vtl1=perhaps\n")
    daemons.reload()
    assert "policy.conf:3: allow-vtl1= is yes or no" in daemons.log()
    assert "the policy stays as it was" in daemons.log()
    vm = Vm(name="refused-2")
    with daemons.client() as c:
        assert c.bring_up(vm)[0] == 0
    vm.close()
    daemons.write_policy("[match all]\nname=*\nallow-vtl1=yes\n")
    daemons.reload()


run(globals())
