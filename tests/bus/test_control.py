#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VMM that writes nonsense into the control memory harms its own VM only."""

import random

from common import *


def test_an_exit_that_the_engine_does_not_know():
    monitor = Monitor(daemons)
    with running_vm() as (vm, client, path, pid):
        vm.control_write("vp.exit.kind", 99, vp=0)
        vm.control_write("vp.mailbox", LAYOUT["VTL_MAILBOX_EXIT"], vp=0)
        wait_for(lambda: vm.control_read("vp.mailbox", vp=0) == LAYOUT["VTL_MAILBOX_ACTION"], "the engine answers")
        assert vm.control_read("vp.action.kind", vp=0) == LAYOUT["VTL_ACTION_STOP"]
        assert vm.control_read("header.stopped") == errno.EINVAL
        monitor.wait("PropertiesChanged", path, lambda data: data[1].get("State", {}).get("data") == "stopped")
        assert daemons.get(path, PARTITION, "State") == "stopped"
        assert process_state(pid) in ("S", "R"), "the worker goes on"
        assert "the engine cannot go on with this guest: Invalid argument" in daemons.log()
        client.ok(DETACH)
    monitor.stop()


def test_a_mailbox_in_no_known_state():
    monitor = Monitor(daemons)
    with running_vm(vps=2) as (vm, client, path, _):
        vm.control_write("vp.mailbox", 77, vp=1)
        assert monitor.wait("WorkerFailed", path)["data"] == ["exited with status 1"]
        assert link_hung_up(client.link) and client.closed()
    monitor.stop()


def test_values_out_of_range_are_shown_as_they_are():
    with running_vm() as (vm, _, path, _):
        os.pwrite(vm.control, b"\xff" * control_size(1), 0)
        properties = daemons.get_all(path, PARTITION)
        assert properties["EnabledVtls"] == 0xFFFFFFFF and properties["ProtectedPages"] == (1 << 64) - 1
        assert properties["VpCount"] == 1 and properties["Uuid"] == str(vm.uuid)
        processor = daemons.get_all(path + "/vp/0", PROCESSOR)
        assert processor["ActiveVtl"] == 0xFFFFFFFF and processor["Index"] == 0


def test_garbage_everywhere():
    seed = int(os.environ.get("VTLD_TEST_SEED", "1"))
    rng = random.Random(seed)
    with running_vm(name="innocent") as (_, other, other_path, other_pid):
        for turn in range(30):
            with running_vm(vps=2) as (vm, _, path, _):
                os.pwrite(vm.ram[0], rng.randbytes(1 << 16), rng.randrange(1 << 20))
                for _ in range(10):
                    offset = rng.randrange(control_size(2))
                    os.pwrite(vm.control, rng.randbytes(min(rng.choice([1, 4, 8, 512]), control_size(2) - offset)),
                              offset)
                    for vp in 0, 1:
                        vm.control_write("vp.exit.kind", rng.randrange(12), vp=vp)
                        vm.control_write("vp.mailbox", rng.randrange(6), vp=vp)
                    time.sleep(0.002)
                state = daemons.get(path, PARTITION, "State")
                assert state in ("running", "stopped", "failed"), "turn %d of seed %d: %s" % (turn, seed, state)
            assert daemons.get(other_path, PARTITION, "State") == "running"
            assert process_state(other_pid) in ("S", "R")
        other.ok(PAUSE)
    assert not re.search("SIGSEGV|SIGSYS|SIGABRT|SIGBUS|Sanitizer|runtime error", daemons.log()), \
        "seed %d: %s" % (seed, [line for line in daemons.log().split("\n") if "SIG" in line or "rror" in line])


run(globals())
