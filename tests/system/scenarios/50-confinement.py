#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What broker and worker may still do when they run."""

from system import *

NOTHING = "0000000000000000"


def confined(pid):
    status = status_of(pid)
    for field in "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
        assert status[field] == NOTHING, (field, status[field])
    user = pwd.getpwnam("vtld")
    assert set(status["Uid"].split()) == {str(user.pw_uid)} and set(status["Gid"].split()) == {str(user.pw_gid)}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    for namespace in "net", "mnt":
        ours, theirs = (os.readlink("/proc/%s/ns/%s" % (p, namespace)) for p in ("self", pid))
        assert ours != theirs, namespace
    with open("/proc/%d/attr/current" % pid) as f:
        assert f.read().strip("\0\n") == "vtld (enforce)"
    return status


def test_broker_and_worker():
    with long_guest("confined") as g:
        g.wait_for_vtl1()
        broker, worker = confined(main_pid()), confined(g.worker())
        assert int(worker["Seccomp_filters"]) > int(broker["Seccomp_filters"]), "the worker has a filter of its own"
        # Not dumpable: its memory is root's, and no process of the same user's.
        assert os.stat("/proc/%d/mem" % g.worker()).st_uid == 0
        opened = {os.readlink("/proc/%d/fd/%s" % (g.worker(), fd)) for fd in os.listdir("/proc/%d/fd" % g.worker())}
        assert not [f for f in opened if f.startswith("/") and not f.startswith("/memfd:") and f != "/dev/null"], opened


def test_the_exposure_is_low():
    text = run("systemd-analyze", "security", "--no-pager", "vtld.service").stdout
    level = float(re.search(r"Overall exposure level for vtld.service: ([0-9.]+)", text)[1])
    diag("exposure %.1f" % level)
    assert level <= 0.5, text


def test_nothing_that_it_needs_was_denied():
    """Of all that the scenarios before this one have made it do"""
    said = [e["MESSAGE"] for e in journal("_TRANSPORT=kernel") if isinstance(e["MESSAGE"], str)]
    denied = [m for m in said if 'apparmor="DENIED"' in m and 'profile="vtld' in m or "type=1326" in m]
    assert not denied, denied
    assert not journal("_SYSTEMD_UNIT=vtld.service", "PRIORITY=2")


main(globals())
