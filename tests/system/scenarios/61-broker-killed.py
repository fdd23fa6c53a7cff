#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtld is killed, hangs, is stopped, upgraded and started again while a guest runs: the guest is served on, and the
next vtld takes it over."""

import glob

from system import *

# What tells a VM that was taken over from one that began again
KEPT = ("Uuid", "Name", "Vmm", "VmmUid", "AttachedAt", "VpCount", "State", "WorkerPid", "PolicyName", "Vtl1Allowed",
        "EnabledVtls", "MeasurementState", "MeasurementDigest", "LibvirtDomain")


def properties(g):
    values = get_all(g.path(), PARTITION)
    return {name: values[name] for name in KEPT}


def keeps_switching(g):
    """The counter of its VTL calls grows."""
    before = g.calls()
    wait_for(lambda: g.calls() > before, "VTL calls")


@contextlib.contextmanager
def taken_over(name, **more):
    """A guest that makes VTL calls all the time, while the broker is dealt with; the next one has it as it was, and
    sees its end."""
    with long_guest(name, **more) as g:
        g.wait_for_vtl1()
        keeps_switching(g)
        before, began = properties(g), now()
        yield g
        assert properties(g) == before, (properties(g), before)
        adopted = message("VM_ADOPTED", began, VTLD_PARTITION=g.uuid)
        assert adopted["VTLD_WORKER_PID"] == str(before["WorkerPid"]) and adopted["VTLD_NAME"] == name
        assert not messages("VM_LEFT", began)
        keeps_switching(g)
        assert name in partitions()
        g.end()
        message("VM_GONE", began, VTLD_PARTITION=g.uuid)
        wait_for(lambda: name not in partitions(), "the VM is off the bus")
        wait_for(lambda: process_ended(before["WorkerPid"]), "the worker ends with its VM")
        wait_for(lambda: unit("vtld.service", "NFileDescriptorStore") == 0, "systemd keeps nothing of it")


@contextlib.contextmanager
def guest_that_survives(name):
    """A guest that asks its engine thousands of times, held while the broker is dealt with; it must be served to
    its end then."""
    with guest("bench", name, append="rounds=1000 raw=0 instruction=0 memory=0") as g:
        g.wait_for_vtl1()
        worker = g.worker()
        g.signal(signal.SIGSTOP)
        assert g.is_running()
        yield g
        assert process_state(worker) in ("S", "R"), "the worker has not ended"
        g.signal(signal.SIGCONT)
        assert g.wait() == GUEST_OK, g.said()
        assert re.search(r"bench handoff 1000 20 \d+", g.said()), g.said()
        wait_for(lambda: process_ended(worker), "the worker ends with its VM")


def another_broker(before):
    """Until there is another one than @before; its PID"""
    return wait_for(lambda: is_active("vtld.service") and main_pid() not in (0, before) and main_pid(), "another broker")


def test_a_killed_broker():
    """What policy says meanwhile is for others."""
    with taken_over("kill") as g, contextlib.ExitStack() as stack:
        if os.path.exists(POLICY):
            with open(POLICY) as f:
                stack.callback(write_policy, f.read())
        else:
            stack.callback(os.unlink, POLICY)
        write_policy("[match nobody]\nname=*\nallow-vtl1=no\n")
        before, restarts = main_pid(), unit("vtld.service", "NRestarts")
        os.kill(before, signal.SIGKILL)
        another_broker(before)
        assert unit("vtld.service", "NRestarts") == restarts + 1
    systemctl("reload", "vtld.service")


def test_a_broker_that_hangs():
    with a_service_that_runs("[Service]\nWatchdogSec=8s\nTimeoutAbortSec=2s\n"), taken_over("hang"):
        before, restarts = main_pid(), unit("vtld.service", "NRestarts")
        os.kill(before, signal.SIGSTOP)
        another_broker(before)
        assert process_state(before) == ""
        assert unit("vtld.service", "NRestarts") == restarts + 1


def test_a_restart():
    with taken_over("restart"):
        before = main_pid()
        systemctl("restart", "vtld.service")
        assert main_pid() not in (0, before)
        with guest("demo", "after the restart") as g:
            assert g.wait() == GUEST_OK, g.said()


def test_an_upgrade():
    """The same package once more is one to dpkg and its scripts."""
    with taken_over("upgrade"):
        before = main_pid()
        run("dpkg", "-i", *glob.glob(os.path.join(HOST, "deb", "vtld_*.deb")), timeout=240,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        another_broker(before)


def test_a_stop():
    with guest_that_survives("stop"):
        systemctl("stop", "vtld.service")
        assert unit("vtld.service", "ActiveState") == "inactive" and unit("vtld.service", "Result") == "success"
        assert unit("vtld.service", "NFileDescriptorStore") == 0, "nobody goes on with them"
    assert not is_active("vtld.service"), "nobody has asked for it"
    systemctl("start", "vtld.service")


main(globals())
