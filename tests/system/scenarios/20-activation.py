#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VMM that connects starts vtld, which serves its guest; the journal has what happened."""

from system import *


def stop():
    systemctl("stop", "vtld.service")
    assert not is_active("vtld.service")


def test_the_socket_can_be_stopped_and_started():
    systemctl("stop", "vtld.socket", "vtld.service")
    assert not os.path.exists(SOCKET)
    with guest("demo", "nobody listens") as g:
        assert g.wait() == 69, g.said()
    assert not is_active("vtld.service")
    systemctl("start", "vtld.socket")
    assert os.path.exists(SOCKET) and not is_active("vtld.service")


def test_a_guest_starts_vtld_and_runs_under_vtl1():
    here = now()
    with guest("demo", "activated") as g:
        assert g.wait() == GUEST_OK, g.said()
        assert is_active("vtld.service")
        started = message("VM_STARTED", here, VTLD_PARTITION=g.uuid)
        assert started["VTLD_NAME"] == "activated" and started["VTLD_VMM_PID"] == str(g.process.pid)
        assert started["_SYSTEMD_UNIT"] == "vtld.service" and started["_COMM"] == "vtld"
        assert g.wait_for_vtl1()["VTLD_VTL"] == "1"
        violations = messages("SECURE_VIOLATION", here, VTLD_PARTITION=g.uuid)
        assert [v["VTLD_ACCESS"] for v in violations] == ["read", "write"], violations
        assert {v["VTLD_VP"] for v in violations} == {"0"}
        assert all(re.fullmatch("0x[0-9a-f]+", v["VTLD_GPA"]) for v in violations)
        message("VM_GONE", here, VTLD_PARTITION=g.uuid)


def test_members_of_the_group_may_attach_and_others_may_not():
    stop()
    make_users()
    with guest("demo", "a stranger's", user="stranger") as g:
        assert g.wait() == 69, g.said()
        assert "denied" in g.said()
    assert not is_active("vtld.service")
    with guest("demo", "a member's", user="vmm") as g:
        assert g.wait() == GUEST_OK, g.said()
        assert message("VM_STARTED", VTLD_PARTITION=g.uuid)["VTLD_UID"] == str(pwd.getpwnam("vmm").pw_uid)


def test_the_catalog_explains_it():
    text = run("journalctl", "--no-pager", "--catalog", "MESSAGE_ID=" + message_id("VTL1_ENABLED")).stdout
    assert "Subject: VM activated has enabled VTL1" in text, text


main(globals())
