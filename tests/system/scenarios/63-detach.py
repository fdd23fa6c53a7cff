#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtlctl detach: root may, another user may not without an administrator's password; the guest stops."""

from system import *


def test_detach():
    with long_guest("taken") as taken, long_guest("kept") as kept:
        taken.wait_for_vtl1()
        kept.wait_for_vtl1()
        worker = taken.worker()
        answer = run("vtlctl", "detach", "taken", check=False, user="nobody")
        assert answer.returncode == 1 and "authentication" in answer.stderr.lower(), answer.stderr
        assert sorted(partitions()) == ["kept", "taken"]
        run("vtlctl", "detach", "taken")
        assert taken.wait() == ENGINE_GONE, taken.said()
        message("VM_GONE", VTLD_PARTITION=taken.uuid)
        wait_for(lambda: process_ended(worker), "its worker ends")
        before = kept.calls()
        wait_for(lambda: kept.calls() > before, "the other guest goes on")
        assert partitions() == ["kept"]


main(globals())
