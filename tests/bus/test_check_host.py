#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtlctl check-host, on systems made of files and with what vtld --probe says elsewhere."""

import copy

from common import *

EX_USAGE, EX_DATAERR = 64, 65

GOOD_PROBE = {
    "fault-precision": "precise",
    "kvm": {"usable": True, "capabilities": {"hyperv": True}},
    "host": {"tsc-stable": True, "max-mappings": 1048576},
    "can-serve": True,
    "reasons": [],
    "warnings": [],
}

GOOD_ROOT = {
    "/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu svm npt\n",
    "/proc/sys/kernel/osrelease": "6.1.0-37-amd64\n",
    "/proc/sys/kernel/seccomp/actions_avail": "kill_process kill_thread trap errno allow\n",
    "/proc/sys/vm/max_map_count": "1048576\n",
    "/sys/module/kvm_amd/parameters/npt": "1\n",
    "/dev/kvm": "",
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\nvtld:x:990:990::/:/usr/sbin/nologin\n",
    "/usr/share/dbus-1/system.d/org.vtld1.conf": "",
}

ALL = ["cpu", "nested-paging", "kernel", "kvm-device", "kvm-capabilities", "kvm-hyperv", "fault-precision", "tsc",
       "max-map-count", "seccomp", "memfd", "user", "config", "policy", "policy-signatures", "bus-policy", "service",
       "socket", "libvirt", "mac"]


class Host:
    """A system below a directory."""
    number = 0

    def __init__(self, probe=None, remove=(), config=None, **files):
        Host.number += 1
        self.name = "root%d" % Host.number
        self.root = os.path.join(daemons.directory, self.name)
        for path, text in {**GOOD_ROOT, **{k: v for k, v in files.pop("files", {}).items()}}.items():
            if path not in remove:
                daemons.write(self.name + path, text)
        self.probe = daemons.write(self.name + "/probe.json", json.dumps(GOOD_PROBE if probe is None else probe))
        if config is None:
            config = "[vtld]\nsocket-path = %s\npolicy = %s\n" % (daemons.socket_path, daemons.policy_path)
        self.config = daemons.write(self.name + "/vtld.conf", config)

    def run(self, *options, bus=None):
        return subprocess.run([program("vtlctl"), "--bus=" + (bus or daemons.address), "check-host",
                               "--root=" + self.root, "--probe=" + self.probe, "--config=" + self.config, *options],
                              text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)

    def answers(self, status=0, bus=None):
        """{check: its answer}"""
        done = self.run("--json", bus=bus)
        assert done.returncode == status and not done.stderr, done
        report = json.loads(done.stdout)
        assert [c["Check"] for c in report["Checks"]] == ALL
        for result in "PASS", "WARN", "FAIL":
            assert report[result] == len([c for c in report["Checks"] if c["Result"] == result])
        worst = [r for r in ("FAIL", "WARN", "PASS") if report[r]][0]
        assert report["Result"] == worst and status == (1 if worst == "FAIL" else 0)
        for c in report["Checks"]:
            assert c["Detail"] and (c["Hint"] is None or c["Result"] != "PASS"), c
        return {c["Check"]: c for c in report["Checks"]}

    def says(self, check, result, text, hint="", status=None, bus=None):
        """One check answers so, and no other one is worse than a warning."""
        answers = self.answers(1 if result == "FAIL" else 0, bus=bus) if status is None \
            else self.answers(status, bus=bus)
        answer = answers[check]
        assert answer["Result"] == result, answer
        assert text in answer["Detail"], answer
        assert hint in (answer["Hint"] or ""), answer
        return answers


def with_probe(**changes):
    probe = copy.deepcopy(GOOD_PROBE)
    for key, value in changes.items():
        key = key.replace("_", "-")
        if isinstance(value, dict):
            probe[key].update(value)
        else:
            probe[key] = value
    return probe


def test_a_good_host():
    # The policy of the test is not signed: the only warning
    answers = Host().answers()
    assert {k for k, a in answers.items() if a["Result"] != "PASS"} == {"policy-signatures"}, answers


def test_lines_for_people():
    text = Host(remove=["/etc/passwd"]).run().stdout
    lines = text.split("\n")
    assert "PASS  hardware virtualization: AMD SVM" in lines
    at = lines.index("WARN  user of the service: there is no user vtld: vtld.service cannot be started")
    assert lines[at + 1].startswith("      systemd-sysusers"), "what to do follows"
    assert lines[-2] == "18 passed, 2 with a warning, 0 failed" and lines[-1] == ""
    assert "\033" not in text, "no colours into a pipe"


def test_processor():
    cpuinfo = "processor\t: 0\nflags\t\t: fpu %s\n"
    Host(files={"/proc/cpuinfo": cpuinfo % "vmx ept"}).says("cpu", "PASS", "Intel VMX")
    # A flag is a whole word
    for flags in "svm_lock xsvm", "avx512_vmx vmxx", "":
        host = Host(with_probe(can_serve=False), files={"/proc/cpuinfo": cpuinfo % flags})
        host.says("cpu", "FAIL", "neither SVM nor VMX", "firmware")
    host = Host(with_probe(can_serve=False), files={"/proc/cpuinfo": cpuinfo % "hypervisor"})
    host.says("cpu", "FAIL", "neither", "nested virtualization")
    Host(files={"/proc/cpuinfo": cpuinfo % "hypervisor"}).says("cpu", "WARN", "neither")
    Host(remove=["/proc/cpuinfo"]).says("cpu", "FAIL", "cannot be read")


def test_nested_paging():
    npt = "/sys/module/kvm_amd/parameters/npt"
    Host(files={npt: "N\n"}).says("nested-paging", "WARN", "does not use it", "npt=1")
    Host(remove=[npt]).says("nested-paging", "WARN", "neither kvm_amd nor kvm_intel", "modprobe")
    intel = {"/sys/module/kvm_intel/parameters/ept": "Y\n"}
    Host(remove=[npt], files=intel).says("nested-paging", "PASS", "uses it")


def test_kernel():
    path = "/proc/sys/kernel/osrelease"
    Host(files={path: "5.10.0\n"}).says("kernel", "WARN", "5.10.0 is older", "6.1")
    Host(files={path: "6.0.9\n"}).says("kernel", "WARN", "older")
    Host(files={path: "7.0\n"}).says("kernel", "PASS", "Linux 7.0")
    Host(files={path: "?\n"}).says("kernel", "WARN", "not known")


def test_kvm():
    reason = "/dev/kvm cannot be opened: Permission denied"
    closed = with_probe(kvm={"usable": False}, reasons=[reason], can_serve=False, fault_precision="unknown")
    answers = Host(closed).says("kvm-device", "FAIL", "Permission denied", "usermod")
    assert answers["kvm-capabilities"]["Result"] == "FAIL" and answers["fault-precision"]["Result"] == "FAIL"
    Host(closed, remove=["/dev/kvm"]).says("kvm-device", "FAIL", "Permission denied", "modprobe")
    reasons = ["KVM does not offer msr-filter: Hyper-V's MSRs", "other", "KVM does not offer xcrs: XCR0"]
    Host(with_probe(reasons=reasons)).says("kvm-capabilities", "FAIL",
                                           "missing: msr-filter: Hyper-V's MSRs; xcrs: XCR0", "stock kernel")
    Host(with_probe(kvm={"capabilities": {"hyperv": False}})).says("kvm-hyperv", "WARN", "takes longer")
    Host(with_probe(fault_precision="imprecise")).says("fault-precision", "WARN", "imprecise", "nested paging")
    Host(with_probe(host={"tsc-stable": False})).says("tsc", "WARN", "drift", "dmesg")


def test_a_probe_that_says_too_much():
    reasons = ["KVM does not offer %s" % ("long-name-" * 30)] * 100
    answers = Host(with_probe(reasons=reasons)).says("kvm-capabilities", "FAIL", "missing: long-name-long-name-")
    assert len(answers["kvm-capabilities"]["Detail"]) < 512


def test_a_probe_that_is_none():
    host = Host()
    for text in "", "[]", "{", "\0":
        daemons.write(host.name + "/probe.json", text)
        done = host.run()
        assert done.returncode == EX_DATAERR and "is not what vtld --probe prints" in done.stderr, (text, done)
    for probe in {}, {"kvm": 1, "reasons": "no", "host": []}, {"reasons": [None, 1, {}]}:
        daemons.write(host.name + "/probe.json", json.dumps(probe))
        host.says("kvm-device", "FAIL", "")


def test_mappings():
    path = "/proc/sys/vm/max_map_count"
    Host(files={path: "65530\n"}).says("max-map-count", "WARN", "about 32765", "sysctl")
    Host(files={path: "-\n"}).says("max-map-count", "WARN", "cannot be read")


def test_system():
    Host(remove=["/proc/sys/kernel/seccomp/actions_avail"]).says("seccomp", "FAIL", "refuse", "CONFIG_SECCOMP")
    Host(files={"/etc/passwd": "notvtld:x:1:1::/:\n"}).says("user", "WARN", "no user vtld", "sysusers")
    Host(remove=["/usr/share/dbus-1/system.d/org.vtld1.conf"]).says("bus-policy", "WARN", "not installed")


def test_configuration():
    answers = Host(config="[vtld]\nmax-vms = many\n").says("config", "FAIL", "max-vms", "vtld.conf(5)")
    for check in "policy", "policy-signatures", "socket":
        assert answers[check]["Result"] == "FAIL" and "not known without" in answers[check]["Detail"]
    bad = daemons.write("bad.conf", "[match x]\nallow-vtl1 = perhaps\n")
    Host(config="[vtld]\npolicy = %s\n" % bad).says("policy", "FAIL", "allow-vtl1", "policy check")
    empty = "[vtld]\npolicy = /nonexistent\npolicy-directories = /nonexistent\n"
    done = Host(config=empty).answers(1)
    assert done["policy"]["Result"] == "FAIL", "a file that was named must be there"


def test_socket():
    config = "[vtld]\nsocket-path = %%s\npolicy = %s\n" % daemons.policy_path
    Host(config=config % "/nonexistent/s").says("socket", "WARN", "No such file", "while vtld runs")
    Host(config=config % daemons.policy_path).says("socket", "FAIL", "is no socket")


def test_without_vtld():
    Host().says("service", "FAIL", "cannot be reached", "start dbus", bus="unix:path=/nonexistent")
    bus = Daemons()
    bus.vtld.terminate()
    bus.vtld.wait()
    Host().says("service", "WARN", "does not answer", "enable --now", bus=bus.address)
    bus.stop()


def test_the_policy_of_the_running_one():
    other = Daemons()
    other.write_policy("[match x]\nallow-vtl1 = perhaps\n")
    other.vtld.send_signal(signal.SIGHUP)
    wait_for(lambda: other.get(ROOT, MANAGER, "PolicyError"), "the policy is read")
    Host().says("service", "FAIL", "could not read its policy", "reload", bus=other.address)
    other.stop()


def test_mandatory_access_control():
    on = {"/sys/module/apparmor/parameters/enabled": "Y\n"}
    qemu = {"/etc/apparmor.d/abstractions/libvirt-qemu": "/dev/kvm rw,\n"}
    Host(files=on).says("mac", "PASS", "does not keep")
    Host(files={**on, **qemu}).says("mac", "WARN", "does not allow the attach socket", daemons.socket_path + " rw,")
    for path in "/etc/apparmor.d/local/abstractions/libvirt-qemu", \
            "/etc/apparmor.d/abstractions/libvirt-qemu.d/vtld":
        Host(files={**on, **qemu, path: "  %s rw,\n" % daemons.socket_path}).says("mac", "PASS", "does not keep")
    Host(files={"/sys/fs/selinux/enforce": "1"}).says("mac", "WARN", "SELinux", "ausearch")
    Host(files={"/sys/fs/selinux/enforce": "0"}).says("mac", "PASS", "neither")


def test_on_this_host():
    done = subprocess.run([program("vtlctl"), "--bus=" + daemons.address, "check-host", "--json"], text=True,
                          timeout=TIMEOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    report = json.loads(done.stdout)
    assert done.returncode == (report["Result"] == "FAIL")
    probe = subprocess.run([program("vtld"), "--probe"], text=True, stdout=subprocess.PIPE)
    found = {c["Check"]: c["Result"] for c in report["Checks"]}
    assert (found["kvm-device"] == "PASS") == json.loads(probe.stdout)["kvm"]["usable"]
    assert found["memfd"] == "PASS" and found["service"] == "PASS"


def test_usage():
    for arguments in ["check-host", "more"], ["list", "--root=/"], ["check-host", "--key=x"], ["check-host", "--root"]:
        done = subprocess.run([program("vtlctl"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == EX_USAGE, arguments


run(globals())
