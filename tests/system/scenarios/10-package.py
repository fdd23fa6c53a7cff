#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The packages are installed, as an administrator would: what is there and what runs afterwards."""

import glob
import grp

from system import *


def test_the_packages_install():
    answer = run("dpkg", "-i", *glob.glob(os.path.join(HOST, "deb", "*.deb")), timeout=240,
                 env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    diag(answer.stdout)
    for package in "vtld", "vtlrun", "libvtlvmm0", "libvtlvmm-dev":
        assert run("dpkg-query", "-W", "-f", "${db:Status-Status}", package).stdout == "installed", package


def test_a_user_was_made():
    user = pwd.getpwnam("vtld")
    assert user.pw_shell.endswith("nologin") and 0 < user.pw_uid < 1000
    assert grp.getgrnam("vtld").gr_gid == user.pw_gid


def test_the_socket_listens_and_the_service_waits():
    assert is_active("vtld.socket") and unit("vtld.socket", "UnitFileState") == "enabled"
    status = os.stat(SOCKET)
    assert status.st_mode & 0o777 == 0o660 and status.st_gid == grp.getgrnam("vtld").gr_gid, oct(status.st_mode)
    folder = os.stat(os.path.dirname(SOCKET))
    assert folder.st_mode & 0o777 == 0o755 and folder.st_uid == pwd.getpwnam("vtld").pw_uid
    assert unit("vtld.service", "ActiveState") == "inactive", "nobody needs it yet"


def test_there_are_mappings_for_scattered_pages():
    assert run("sysctl", "-n", "vm.max_map_count").stdout.strip() == "1048576"


def test_the_units_are_valid():
    answer = run("systemd-analyze", "verify", "--man=no", "vtld.service", "vtld.socket", check=False)
    assert answer.returncode == 0 and not answer.stdout + answer.stderr, answer.stdout + answer.stderr


def test_polkit_knows_the_actions():
    known = run("pkaction").stdout.split()
    for action in "inspect", "load-policy", "detach":
        assert "org.vtld1." + action in known


def test_the_catalog_is_known():
    text = run("journalctl", "--dump-catalog", message_id("VTL1_DENIED")).stdout
    assert "Subject: Policy" in text and "Defined-By: vtld" in text, text


def test_a_call_on_the_bus_starts_the_service():
    version = run("vtlctl", "--version").stdout.split()[1]
    assert json.loads(run("vtlctl", "--json", "status").stdout)["Version"] == version
    assert is_active("vtld.service") and unit("vtld.service", "NRestarts") == 0
    assert pwd.getpwnam("vtld").pw_uid == int(status_of(main_pid())["Uid"].split()[0])


def test_it_says_that_there_is_no_policy():
    assert message("POLICY_NONE")["PRIORITY"] == "5"


def test_this_host_can_serve_guests():
    report = json.loads(run("/usr/libexec/vtld", "--probe").stdout)
    assert report["can-serve"] and report["fault-precision"] == "precise", report


main(globals())
