#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The packages go while a guest runs; the guest is served to its end, and nothing is left then."""

from system import *


def test_the_packages_go_and_the_guest_stays():
    systemctl("start", "vtld.service")
    with long_guest("last") as g:
        g.wait_for_vtl1()
        worker, broker = g.worker(), main_pid()
        answer = run("dpkg", "--purge", "vtld", "vtlrun", "libvtlvmm-dev", "libvtlvmm0", timeout=240)
        diag(answer.stdout + answer.stderr)
        assert process_state(broker) == "" and not os.path.exists(SOCKET)
        assert g.is_running() and process_state(worker) in ("S", "R")
    wait_for(lambda: process_ended(worker), "the worker ends with its guest")


def test_nothing_is_left():
    for package in "vtld", "vtlrun", "libvtlvmm-dev", "libvtlvmm0":
        assert run("dpkg-query", "-W", "-f", "${db:Status-Status}", package, check=False).stdout in ("", "not-installed")
    for path in "/usr/libexec/vtld", "/usr/share/dbus-1/system.d/org.vtld1.conf", "/etc/apparmor.d/vtld", \
            "/lib/systemd/system/vtld.service", "/etc/systemd/system/sockets.target.wants/vtld.socket":
        assert not os.path.lexists(path), path
    answer = busctl("status", "org.vtld1", check=False)
    assert answer.returncode != 0
    failed = systemctl("list-units", "--failed", "--plain", "--no-legend").stdout
    assert "vtld" not in failed, failed


main(globals())
