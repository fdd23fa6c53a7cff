#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator, and everybody else, sees of a guest that runs."""

from system import *


def test_the_bus_and_vtlctl_show_a_guest():
    with long_guest("inspected", vcpus=2) as g:
        g.wait_for_vtl1()
        path = g.path()
        assert path in busctl("tree", "--list", "org.vtld1").stdout.split()
        for where, interface, member in (ROOT, MANAGER, ".Reload"), (path, PARTITION, ".Vtl1Allowed"), \
                (path + "/vp/1", PROCESSOR, ".VtlCalls"), \
                ("/org/freedesktop/LogControl1", "org.freedesktop.LogControl1", ".LogLevel"):
            text = busctl("introspect", "org.vtld1", where).stdout
            assert interface in text and member in text, text

        properties = get_all(path, PARTITION)
        assert (properties["Name"], properties["State"], properties["EnabledVtls"]) == ("inspected", "running", 3)
        assert (properties["Vmm"], properties["VmmUid"]) == (g.process.pid, 0)
        assert properties["ExecuteEnforcement"] == properties["DmaEnforcement"] == "none"
        assert properties["FaultPrecision"] == "precise"
        before = g.calls()
        wait_for(lambda: g.calls() > before, "VTL calls go on")

        listed, = [vm for vm in json.loads(run("vtlctl", "--json", "list").stdout) if vm["Uuid"] == g.uuid]
        assert listed["Name"] == "inspected" and listed["State"] == "running"
        line = next(line for line in run("vtlctl", "list").stdout.splitlines() if g.uuid in line)
        assert "inspected" in line and "running" in line, line
        text = run("vtlctl", "status", "inspected").stdout
        assert g.uuid in text and str(g.worker()) in text, text
        assert len(json.loads(run("vtlctl", "--json", "vp", g.uuid).stdout)) == 2


def test_the_service_manager_is_told():
    with long_guest("counted") as g:
        g.wait_for_vtl1()
        wait_for(lambda: unit("vtld.service", "StatusText") == "1 partitions", "the status")
        assert "1 partitions" in systemctl("status", "vtld.service").stdout
    wait_for(lambda: unit("vtld.service", "StatusText") == "0 partitions", "the status without guests")


def test_everybody_may_look():
    with long_guest("public") as g:
        g.wait_for_vtl1()
        assert "public" in run("vtlctl", "list", user="nobody").stdout


def test_the_log_level():
    assert systemctl("service-log-level", "vtld.service").stdout.strip() == "info"
    assert systemctl("service-log-target", "vtld.service").stdout.strip() == "journal"
    systemctl("service-log-level", "vtld.service", "debug")
    assert systemctl("service-log-level", "vtld.service").stdout.strip() == "debug"
    systemctl("service-log-level", "vtld.service", "info")


main(globals())
