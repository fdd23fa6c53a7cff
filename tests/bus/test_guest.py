#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real guest of vtlrun on /dev/kvm, with its engine in a worker: what the bus shows of it."""

from common import *


@contextlib.contextmanager
def guest(image, name, vcpus=1, service=None, append=""):
    """vtlrun with a guest, attached to vtld. Yields the process; its output is in process.text afterwards."""
    os.close(kvm_vm())  # or Skip
    path = os.path.join(BUILDDIR, "tests", "guests", image + ".elf")
    if not os.path.exists(path):
        raise RuntimeError("no guest %s; make check builds it" % path)
    service = service or daemons
    process = subprocess.Popen([program("vtlrun"), "--attach", service.socket_path, "--name", name, "--vcpus",
                                str(vcpus), "--timeout", "60", "--append", append, path], stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.text = ""
    try:
        yield process
        process.text, _ = process.communicate(timeout=90)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def attached(monitor):
    """The object of the VM that has just been attached."""
    return monitor.wait("InterfacesAdded", ROOT, lambda data: PARTITION in data[1])["data"][0]


def test_a_guest_that_enables_vtl1():
    monitor = Monitor(daemons)
    with guest("demo", "bus demo") as vmm:
        path = attached(monitor)
    assert vmm.returncode == 1, vmm.text  # exit port 0xf4, value 0
    assert monitor.signals("VtlEnabled", path)[0]["data"] == [1]
    assert monitor.signals("VtlEnabled", path + "/vp/0")[0]["data"] == [1]
    violations = [s["data"] for s in monitor.signals("SecureViolation", path)]
    assert [v[1] for v in violations] == ["read", "write"] and {v[2] for v in violations} == {0}, violations
    monitor.wait("InterfacesRemoved", ROOT, lambda data: data[0] == path)
    assert not monitor.signals("WorkerFailed") and not monitor.signals("Vtl1Denied")
    monitor.stop()


def test_a_service_of_another_user():
    if os.getuid() != 0:
        raise Skip("becoming another user needs root")
    own = Daemons(user=65534)
    monitor = Monitor(own)
    with guest("demo", "another user's", service=own) as vmm:
        path = attached(monitor)
        monitor.wait("VtlEnabled", path)
    assert vmm.returncode == 1, vmm.text
    assert len(monitor.signals("SecureViolation", path)) == 2
    monitor.wait("InterfacesRemoved", ROOT, lambda data: data[0] == path)
    monitor.stop()
    own.stop()


def test_two_vps_kick_each_other():
    monitor = Monitor(daemons)
    with guest("smp", "two", vcpus=2) as vmm:
        path = attached(monitor)
    assert vmm.returncode == 1, vmm.text
    assert monitor.signals("VtlEnabled", path + "/vp/0") and monitor.signals("VtlEnabled", path + "/vp/1")
    monitor.stop()


def test_a_guest_that_policy_refuses():
    daemons.write_policy("[match no]\nname=refused\nallow-vtl1=no\n[match rest]\nname=*\nallow-vtl1=yes\n")
    daemons.reload()
    monitor = Monitor(daemons)
    with guest("demo", "refused") as vmm:
        path = attached(monitor)
    assert vmm.returncode != 1, "the demonstration cannot succeed: " + vmm.text
    assert monitor.wait("Vtl1Denied", path)["data"] == ["no"]
    assert not monitor.signals("VtlEnabled")
    assert "asked for VTL1, which policy \"no\" refuses" in daemons.log()
    monitor.stop()
    daemons.write_policy("[match all]\nname=*\nallow-vtl1=yes\n")
    daemons.reload()


def test_the_end_of_the_worker_stops_the_guest():
    monitor = Monitor(daemons)
    # It must not be over before its worker is.
    with guest("bench", "long", append="switch=100000000") as vmm:
        path = attached(monitor)
        monitor.wait("VtlEnabled", path)
        pid = daemons.get(path, PARTITION, "WorkerPid")
        os.kill(pid, signal.SIGKILL)
        monitor.wait("WorkerFailed", path)
        wait_for(lambda: vmm.poll() is not None, "the VMM stops its guest")
    assert vmm.returncode not in (0, 1), vmm.text
    monitor.wait("InterfacesRemoved", ROOT, lambda data: data[0] == path)
    monitor.stop()


run(globals())
