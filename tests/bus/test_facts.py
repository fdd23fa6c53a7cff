#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is not enforced, mappings, strict mode and crashes: on the bus, and as vtlctl shows it.

The control memory is the VMM's to write, so whatever is in there is shown without harm. Guests that bring
all this about are those of tests/facts.
"""

from common import *

FLAGS = ["cpuid-intercept", "port-intercept", "mbec", "deny-startup", "execute"]
CR = ["cr0-write", "cr4-write", "xcr0-write", "gdtr-write", "idtr-write", "ldtr-write", "tr-write"]


def u64(*values):
    return struct.pack("=%dQ" % len(values), *values)


def status(what, *options):
    return subprocess.run([program("vtlctl"), "--bus=" + daemons.address, *options, "status", what], check=True,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT).stdout


def test_numbers_of_the_control_memory():
    rows = {"Mappings": "mappings", "MappingsMax": "mappings_max", "ProtectionsRefused": "protections_refused",
            "StrictPages": "strict_pages", "StrictSteps": "strict_steps"}
    with running_vm(name="numbers") as (vm, _, path, _):
        for i, field in enumerate(rows.values()):
            vm.control_write("header." + field, u64((1 << 40) + i))
        vm.control_write("header.crashes", 7)
        vm.control_write("header.crash_vtl", 1)
        properties = daemons.get_all(path, PARTITION)
        assert [properties[name] for name in rows] == [(1 << 40) + i for i in range(len(rows))]
        assert (properties["Crashes"], properties["CrashVtl"]) == (7, 1)
        text = status("numbers")
        assert "Mappings: 1099511627776 of at most 1099511627777\n" in text, text
        assert "1099511627778 protections refused since they would have needed more\n" in text, text


def test_names_of_what_is_not_enforced():
    with running_vm(name="names") as (vm, _, path, _):
        assert "Not enforced" not in status("names")
        for bit, name in enumerate(["mbec", "deny-startup", "cpuid-intercept", "port-intercept", "execute"]):
            vm.control_write("header.unenforced", u64(1 << bit))
            assert daemons.get(path, PARTITION, "Unenforced") == [name]
        for bit, name in zip((0, 1, 2, 15, 16, 17, 18), CR):
            vm.control_write("header.unenforced_cr", u64(1 << bit))
            assert daemons.get(path, PARTITION, "UnenforcedCrIntercepts") == [name]
        vm.control_write("header.unenforced", u64(5))
        assert "Not enforced: cpuid-intercept, mbec, tr-write\n" in status("names")
        shown = json.loads(status("names", "--json"))
        assert (shown["Unenforced"], shown["UnenforcedCrIntercepts"]) == (["cpuid-intercept", "mbec"], ["tr-write"])
        for field in "unenforced", "unenforced_cr":
            vm.control_write("header." + field, u64((1 << 64) - 1))
        assert daemons.get(path, PARTITION, "Unenforced") == FLAGS
        assert daemons.get(path, PARTITION, "UnenforcedCrIntercepts") == CR


def test_a_crash():
    monitor = Monitor(daemons)
    code, rest = 0x12ab34cd56ef, [1, 2, 3, (1 << 64) - 1]
    with running_vm(vps=2, name="crash") as (vm, _, path, _):
        assert daemons.get(path, PARTITION, "CrashParameters") == []
        vm.control_write("header.unenforced", u64(1))
        vm.crash([code, *rest], vp=1)
        changed = monitor.wait("PropertiesChanged", path, lambda data: "Unenforced" in data[1])["data"][1]
        assert changed["Unenforced"]["data"] == ["mbec"], "told with the event after which it is looked at"
        assert monitor.wait("GuestCrashed", path)["data"] == [0, code, 1]
        properties = daemons.get_all(path, PARTITION)
        assert (properties["Crashes"], properties["CrashVtl"]) == (1, 0)
        assert properties["CrashParameters"] == [code, *rest]
        assert "Crashes: 1, the last of VTL0: 0x12ab34cd56ef, 0x1, 0x2, 0x3, 0xffffffffffffffff\n" in status("crash")
        assert "VM %s: VTL0 reports that it has crashed: 0x12ab34cd56ef" % vm.uuid in daemons.log()
        assert properties["State"] == "running", "what comes of it is the guest's affair"
    monitor.stop()


def test_crashes_without_end():
    monitor = Monitor(daemons)
    with running_vm() as (vm, client, path, _):
        begin = time.monotonic()
        for i in range(200):
            vm.wrmsr(0x40000105, 1 << 63)
        wait_for(lambda: daemons.get(path, PARTITION, "Crashes") == 200, "all are counted")
        client.ok(PAUSE)
        seconds = time.monotonic() - begin
        monitor.wait("PropertiesChanged", path, lambda data: data[1].get("State", {}).get("data") == "paused")
        signals = len(monitor.signals("GuestCrashed", path))
        assert 1 <= signals <= 10 * (seconds + 1), "%d signals in %.1f s" % (signals, seconds)
    monitor.stop()


def test_what_vtl1_says_about_itself():
    daemons.write_policy("[match open]\nname=open\nallow-vtl1=yes\nallow-register-read=yes\n"
                         "[match all]\nname=*\nallow-vtl1=yes\n")
    daemons.reload()
    for name, shown in ("open", [5, 6, 7, 8, 9]), ("closed", [5]):
        with running_vm(name=name) as (vm, _, path, _):
            vm.control_write("header.crash", u64(5, 6, 7, 8, 9))
            vm.control_write("header.crashes", 1)
            assert daemons.get(path, PARTITION, "CrashParameters") == [5, 6, 7, 8, 9], "VTL0's are no secret"
            vm.control_write("header.crash_vtl", 1)
            assert daemons.get(path, PARTITION, "CrashParameters") == shown


def test_vtlctl_monitor_says_it():
    process = subprocess.Popen([program("vtlctl"), "--bus=" + daemons.address, "monitor"], stdout=subprocess.PIPE,
                               text=True)
    assert process.stdout.readline() == "Listening; end with Ctrl-C.\n"
    with running_vm() as (vm, _, _, _):
        vm.crash([0xdead, 0, 0, 0, 0])
        time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=TIMEOUT)
    assert "the guest reports that it has crashed  Vtl=0  Code=0xdead  Vp=0\n" in text, text


def test_the_probe_and_the_manual_list_it():
    report = json.loads(subprocess.run([program("vtld"), "--probe"], stdout=subprocess.PIPE, text=True,
                                       timeout=TIMEOUT).stdout)
    rows = {row["name"]: row for row in report["unenforced"]}
    assert sorted(rows) == sorted(CR + FLAGS + ["x2apic-msr-intercept"])
    assert {rows[name]["policy-key"] for name in CR + ["cpuid-intercept", "port-intercept"]} == {"cr-intercepts"}
    assert rows["x2apic-msr-intercept"]["policy-key"] is None
    assert rows["x2apic-msr-intercept"]["msrs"] == [[0x800, 0x8ff]]
    assert [0x20, 0x21] in rows["port-intercept"]["ports"] and "ports" not in rows["mbec"]
    with open(os.path.join(SRCDIR, "man", "vtld.8")) as f:
        section = f.read().partition(".Sh WHAT IS NOT ENFORCED")[2].partition(".Sh ")[0]
    lines = [line.split() for line in section.split("\n") if line.startswith(".It Cm ")]
    names = {word for line in lines for word in line[2:] if word != ","}
    assert names == set(rows), names ^ set(rows)
    for key in {row["policy-key"] for row in rows.values()} - {None}:
        assert re.search(r"(?m)^\.Cm %s\b" % key, section), key


run(globals())
