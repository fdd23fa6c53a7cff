#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtld ends when nobody needs it, and is there again when somebody does."""

from system import *

IDLE = "[Service]\nExecStart=\nExecStart=/usr/libexec/vtld --exit-idle-time=3\n"


def ended():
    return unit("vtld.service", "ActiveState") == "inactive"


def test_it_ends_and_comes_back():
    with a_service_that_runs(IDLE):
        wait_for(ended, "the end for want of use")
        assert unit("vtld.service", "Result") == "success"
        assert is_active("vtld.socket")
        assert partitions() == [], "a call starts it"
        wait_for(ended, "the end for want of use")
        with long_guest("awake") as g:
            g.wait_for_vtl1()
            pid = main_pid()
            time.sleep(6)
            assert main_pid() == pid != 0, "it does not end while a VM is attached"
        wait_for(ended, "the end after the VM")


def test_no_call_is_lost_between_two_of_them():
    with a_service_that_runs(IDLE):
        for _ in range(4):
            # About when it ends
            time.sleep(2.7)
            assert partitions() == []


main(globals())
