#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The packages are upgraded while guests run: another broker takes the place of the one before, and the guests go on."""

import glob

from system import *

# A guest that only switches, which the library does alone, and one that asks its engine all the time. They are
# nice: an upgrade is work enough for this machine.
SWITCHES = "switch=100000000"
ASKS = "rounds=1 raw=0 switch=0 memory=0 instruction=0 handoff=100000000"


def version():
    return run("dpkg-query", "-W", "-f", "${Version}", "vtld").stdout


def goes_on(g, field):
    before = g.counter(field)
    wait_for(lambda: g.counter(field) > before + 100, "guest %s goes on" % g.name)


def test_guests_go_on_through_an_upgrade():
    systemctl("start", "vtld.service")
    before = version()
    with guest("bench", "switches", append=SWITCHES, nice=19) as switches, guest("bench", "asks", append=ASKS, nice=19) as asks:
        guests = [(switches, "vtl_calls"), (asks, "engine_exits")]
        for g, field in guests:
            g.wait_for_vtl1()
            goes_on(g, field)
        workers, broker, listening = [g.worker() for g, _ in guests], main_pid(), os.stat(SOCKET).st_ino

        answer = run("dpkg", "-i", *glob.glob(os.path.join(HOST, "next", "*.deb")), timeout=240,
                     env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        diag(answer.stdout + answer.stderr)
        assert version() == before + "+next"

        assert is_active("vtld.socket") and os.stat(SOCKET).st_ino == listening, "VMMs could connect all the time"
        assert is_active("vtld.service") and main_pid() not in (0, broker)
        assert os.readlink("/proc/%d/exe" % main_pid()) == "/usr/libexec/vtld"
        for worker in workers:
            assert process_state(worker) in ("S", "R")
            assert os.readlink("/proc/%d/exe" % worker) == "/usr/libexec/vtld (deleted)", "it is the one of before"
        for (g, field), worker in zip(guests, workers):
            assert g.is_running() and g.worker() == worker, "the new broker has taken it over"
            goes_on(g, field)
        with guest("demo", "after the upgrade") as g:
            assert g.wait() == GUEST_OK, g.said()
    for worker in workers:
        wait_for(lambda: process_ended(worker), "the worker ends with its guest")


def test_nothing_failed():
    failed = systemctl("list-units", "--failed", "--plain", "--no-legend").stdout
    assert "vtld" not in failed, failed


main(globals())
