#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of a worker: its guest stops, nobody else notices."""

from system import *


def test_the_guest_of_a_killed_worker_stops_and_no_other():
    with long_guest("victim") as victim, long_guest("neighbour") as neighbour:
        victim.wait_for_vtl1()
        neighbour.wait_for_vtl1()
        pid, broker = victim.worker(), main_pid()
        path = victim.path()
        # Its VMM is held, so that what the bus says meanwhile can be seen.
        victim.signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        failed = message("WORKER_FAILED", VTLD_PARTITION=victim.uuid)
        assert failed["VTLD_REASON"] == "killed by signal SIGKILL" and failed["PRIORITY"] == "3"
        properties = get_all(path, PARTITION)
        assert (properties["State"], properties["WorkerPid"]) == ("failed", 0)
        victim.signal(signal.SIGCONT)
        assert victim.wait() == ENGINE_GONE, victim.said()
        message("VM_GONE", VTLD_PARTITION=victim.uuid)

        before = neighbour.calls()
        wait_for(lambda: neighbour.calls() > before, "the other guest goes on")
        assert main_pid() == broker and partitions() == ["neighbour"]
    with guest("demo", "afterwards") as g:
        assert g.wait() == GUEST_OK, g.said()


main(globals())
