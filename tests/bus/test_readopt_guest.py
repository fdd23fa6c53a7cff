#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One vtld after the other while a real guest of vtlrun runs on /dev/kvm: it goes on, and is shown again."""

from common import *
from manager import Manager

daemons.stop()
manager = Manager()


@contextlib.contextmanager
def guest(image, name, append="", vcpus=1, status=None, timeout=120):
    """vtlrun with a guest, attached to vtld; it must end with @status, or is ended. Yields the process."""
    os.close(kvm_vm())  # or Skip
    if manager.vtld.poll() is not None:
        manager.start()
    path = os.path.join(BUILDDIR, "tests", "guests", image + ".elf")
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([program("vtlrun"), "--attach", manager.socket_path, "--name", name, "--vcpus",
                                    str(vcpus), "--timeout", str(timeout), "--append", append, path],
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

        def said():
            output.seek(0)
            return output.read()

        process.said = said
        try:
            yield process
            if status is not None:
                wait_for(lambda: process.poll() is not None, "the guest ends", timeout)
                assert process.returncode == status, said()
        except AssertionError:
            tap.diag(said())
            raise
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    if manager.vtld.poll() is None:
        wait_for(lambda: managed_by(manager) == {ROOT}, "nothing is on the bus")
        manager.forgotten()


def managed_by(service):
    return set(service.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]) | {ROOT}


def the_vm(name):
    """Path of the VM of that name, or None"""
    return next((p for _, n, p in manager.call(ROOT, MANAGER, "ListPartitions")[0] if n == name), None)


def calls(path, vp=0):
    return manager.get("%s/vp/%d" % (path, vp), PROCESSOR, "VtlCalls")


def keeps_switching(path, vp=0):
    before = calls(path, vp)
    wait_for(lambda: calls(path, vp) > before, "VTL calls")


def is_served(path):
    wait_for(lambda: manager.get(path, PARTITION, "EnabledVtls") == 3, "VTL1 is enabled")
    keeps_switching(path)


def control():
    """The control memory of the only VM there is"""
    with manager.lock:
        return next(fd for name, fd in manager.store if name.endswith("-control"))


def calls_so_far():
    """Of the first VP, from the control memory: nobody else is there to say."""
    return struct.unpack("=Q", os.pread(control(), 8, CONTROL_HEADER + LAYOUT["vp.stats"]))[0]


def test_it_keeps_switching():
    for how in signal.SIGKILL, signal.SIGTERM:
        with guest("bench", "switches", append="switch=100000000") as vmm:
            path = wait_for(lambda: the_vm("switches"), "the VM")
            is_served(path)
            before = manager.get_all(path, PARTITION)
            manager.end(how)
            # Without any vtld
            count = calls_so_far()
            wait_for(lambda: calls_so_far() > count, "VTL calls")
            assert vmm.poll() is None
            manager.start()
            assert manager.get_all(path, PARTITION) == before
            keeps_switching(path)


def required(digest):
    manager.write_policy("[match all]\nname=*\nallow-vtl1=yes\nmeasurement=%s\n" % digest)
    manager.reload()


def measured():
    """What measure.elf is measured to"""
    with guest("measure", "reference", append="hold=100"):
        path = wait_for(lambda: the_vm("reference"), "the VM")
        return wait_for(lambda: manager.get(path, PARTITION, "MeasurementDigest"), "its measurement")


@contextlib.contextmanager
def without_vtld_before_vtl1(append, status=None):
    """A guest whose worker runs, and whose vtld was killed before it came to its VTL1"""
    with guest("measure", "measured", append=append, status=status) as vmm:
        wait_for(lambda: any(n.endswith("worker-pid") for n in manager.names()) or vmm.poll() is not None, "a worker")
        vmm.send_signal(signal.SIGSTOP)
        path = wait_for(lambda: the_vm("measured"), "the VM")
        # On a fast machine it may have come that far.
        asked = manager.get(path, PARTITION, "MeasurementState") != "none"
        manager.end(signal.SIGKILL)
        vmm.send_signal(signal.SIGCONT)
        if asked:
            tap.diag("it was asked before it could be killed")
        yield vmm


def test_a_measurement_waits_for_the_next_one():
    digest = measured()
    required(digest)
    with without_vtld_before_vtl1("hold=100") as vmm:
        time.sleep(3)
        assert "holding for" not in vmm.said(), "VTL1 runs though nobody has said that it may"
        manager.start()
        path = wait_for(lambda: the_vm("measured"), "the VM")
        wait_for(lambda: "holding for" in vmm.said(), "VTL1 runs")
        assert manager.get(path, PARTITION, "MeasurementState") == "measured"
        assert manager.get(path, PARTITION, "MeasurementDigest") == digest
        manager.again(signal.SIGKILL)
        assert manager.get(path, PARTITION, "MeasurementDigest") == digest


def test_another_measurement_is_refused_by_the_next_one():
    required("00" * 48)
    with without_vtld_before_vtl1("refused=1 hold=100") as vmm:
        time.sleep(1)
        manager.start()
        path = wait_for(lambda: the_vm("measured"), "the VM")
        wait_for(lambda: "holding for" in vmm.said(), "the guest goes on without")
        assert manager.get(path, PARTITION, "MeasurementState") == "refused"


def test_a_required_measurement_without_a_next_one():
    with without_vtld_before_vtl1("refused=1", status=1):
        manager.forget()
    manager.write_policy("[match all]\nname=*\nallow-vtl1=yes\n")


def stop():
    if manager.vtld.poll() is not None:
        manager.start()
    manager.stop()


tap.main(globals(), stop)
