#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domains of libvirt on the bus: their names, their policies, their ends, and the helper that tells them."""

from common import *
from libvirt import *
from machined import Machined

daemons.stop()
daemons = PlayedDaemons()
played = daemons.libvirt
machined = Machined(daemons)
ME = os.getpid()


def partition_is_gone(path):
    return daemons.busctl("get-property", "org.vtld1", path, PARTITION, "State", check=False).returncode != 0


@contextlib.contextmanager
def domain_vm(attach_only=False, domain=None, belongs=True, **more):
    """A VM of this process, which machined takes for the domain of its UUID. Yields (vm, client, path)."""
    vm = Vm(**more)
    if domain is not None:
        played.domain(vm.uuid, **domain)
    machined.set({ME: vm.uuid} if belongs else {})
    client = daemons.client()
    try:
        client.version()
        client.send(ATTACH, vm.payload(), vm.fds())
        if domain is not None and not domain.get("pid"):
            # What vtld knows of the domain may be of its last run, and its process news.
            assert played.asked() == vm.uuid.bytes
            played.domain(vm.uuid, **domain)
        assert client.receive().error == 0
        if not attach_only:
            client.add_vps(vm)
            client.start()
        yield vm, client, daemons.partition_path(vm.uuid)
    finally:
        client.close()
        vm.close()
        machined.set()
        wait_for(lambda: daemons.get(ROOT, MANAGER, "Partitions") == 0, "the VM is gone")


def words(path):
    return daemons.get(path, PARTITION, "LibvirtDomain"), daemons.get(path, PARTITION, "LibvirtPolicy")


def test_state():
    assert daemons.libvirt_state() == "connected"
    monitor = Monitor(daemons)
    played.state(CONNECTING)
    monitor.wait("PropertiesChanged", ROOT, lambda data: data[1].get("LibvirtState", {}).get("data") == "connecting")
    played.state(FAILED, b"because\x1b")
    monitor.wait("PropertiesChanged", ROOT, lambda data: data[1].get("LibvirtState", {}).get("data") == "failed")
    assert "libvirt (played:///) cannot be asked: because\\x1b; trying again" in daemons.log()
    played.state(CONNECTING)
    played.state(CONNECTED)
    monitor.wait("PropertiesChanged", ROOT, lambda data: data[1].get("LibvirtState", {}).get("data") == "connected")
    monitor.stop()


def test_a_domain():
    with domain_vm(domain={"name": "größe", "policy": "hardened"}) as (vm, _, path):
        assert words(path) == ("größe", "hardened")
        assert "VM %s: libvirt domain gr\\xc3\\xb6\\xc3\\x9fe, policy \"hardened\"" % vm.uuid in daemons.log()
        status = subprocess.run([program("vtlctl"), "--bus=" + daemons.address, "status", str(vm.uuid)], text=True,
                                stdout=subprocess.PIPE, check=True).stdout
        assert "Domain: größe, policy hardened\n" in status
        status = subprocess.run([program("vtlctl"), "--bus=" + daemons.address, "status"], text=True,
                                stdout=subprocess.PIPE, check=True).stdout
        assert "\nlibvirt: connected\n" in status


def test_a_domain_without_policy():
    with domain_vm(domain={"name": "plain"}) as (_, _, path):
        assert words(path) == ("plain", "")


def test_another_process_is_not_the_domain():
    with domain_vm(domain={"name": "stolen", "policy": "hardened"}, belongs=False) as (vm, _, path):
        assert words(path) == ("", "")
        assert "VM %s: not known to be libvirt domain stolen of this UUID" % vm.uuid in daemons.log()
        # And what happens to the domain is nothing to it.
        played.domain(vm.uuid, name="stolen", policy="more")
        played.domain(vm.uuid, name="stolen", state=INACTIVE)
        played.gone(vm.uuid)
        time.sleep(0.3)
        assert words(path) == ("", "") and "its domain has stopped" not in daemons.log()


def test_a_process_that_only_libvirt_knows():
    """As those of a session, which are no machines."""
    with domain_vm(domain={"name": "mine", "policy": "p", "pid": ME}, belongs=False) as (vm, _, path):
        assert words(path) == ("mine", "p")
        other = Vm()
        with daemons.client() as c:
            c.version()
            c.refused(errno.EPERM, "libvirt domain of another UUID", ATTACH, other.payload(), other.fds())
        other.close()
        played.domain(vm.uuid, name="mine", policy="p")


def test_a_domain_that_has_just_been_created():
    vm = Vm()
    machined.set({ME: vm.uuid})
    with daemons.client() as c:
        c.version()
        c.send(ATTACH, vm.payload(), vm.fds())
        assert played.asked() == vm.uuid.bytes
        played.domain(vm.uuid, name="new", policy="p")
        assert c.receive().error == 0
        assert words(daemons.partition_path(vm.uuid)) == ("new", "p")
    vm.close()
    machined.set()


def test_a_domain_that_libvirt_does_not_know():
    vm = Vm()
    machined.set({ME: vm.uuid})
    with daemons.client() as c:
        c.version()
        c.send(ATTACH, vm.payload(), vm.fds())
        played.asked()
        played.gone(vm.uuid)
        assert c.receive().error == 0
        path = daemons.partition_path(vm.uuid)
        assert words(path) == ("", "")
        assert "VM %s: of a libvirt domain whose name and policy are not known" % vm.uuid in daemons.log()
        # It may be told later.
        played.domain(vm.uuid, name="late", policy="p")
        wait_for(lambda: words(path) == ("late", "p"), "the domain is known")
    vm.close()
    machined.set()


def test_libvirt_does_not_answer():
    vm = Vm()
    machined.set({ME: vm.uuid})
    with daemons.client() as c:
        c.version()
        c.send(ATTACH, vm.payload(), vm.fds())
        played.asked()
        assert c.receive().error == 0
        assert "libvirt has not said in time which domain it is of" in daemons.log()
    vm.close()
    machined.set()


def test_policy_changes():
    monitor = Monitor(daemons)
    with domain_vm(domain={"policy": "one"}) as (vm, _, path):
        assert words(path) == ("played", "one")
        played.domain(vm.uuid, policy="two")
        monitor.wait("PropertiesChanged", path, lambda data: data[1].get("LibvirtPolicy", {}).get("data") == "two")
        line = "VM %s: its domain's policy is \"two\" now; it counts when it attaches again" % vm.uuid
        assert line in daemons.log()
        played.domain(vm.uuid, name="renamed")
        monitor.wait("PropertiesChanged", path, lambda data: data[1].get("LibvirtDomain", {}).get("data") == "renamed")
        assert words(path) == ("renamed", "")
        assert "VM %s: its domain has no policy any more; it counts" % vm.uuid in daemons.log()
        assert daemons.get(path, PARTITION, "State") == "running" and daemons.get(path, PARTITION, "Vtl1Allowed")
    monitor.stop()


def test_policy_changes_before_the_start():
    with domain_vm(attach_only=True, domain={"policy": "one"}) as (vm, _, path):
        played.domain(vm.uuid, policy="two")
        wait_for(lambda: words(path) == ("played", "two"), "the policy is known")
        assert "VM %s: its domain's policy is \"two\" now\n" % vm.uuid in daemons.log()


def test_the_domain_stops():
    with domain_vm(domain={}) as (vm, client, path):
        pid = daemons.get(path, PARTITION, "WorkerPid")
        begin = time.monotonic()
        played.domain(vm.uuid, state=INACTIVE)
        assert client.closed()
        assert time.monotonic() - begin >= 4, "its VMM gets some time"
        assert link_hung_up(client.link), "the worker ends"
        wait_for(lambda: process_ended(pid), "the worker is gone")
        assert partition_is_gone(path)
        assert "VM %s: its domain has stopped\n" % vm.uuid in daemons.log()
        assert "VM %s: detached: its domain has stopped, and its VMM has not" % vm.uuid in daemons.log()


def test_the_domain_crashes_and_is_undefined():
    for end in lambda u: played.domain(u, state=CRASHED), played.gone:
        with domain_vm(attach_only=True, domain={}) as (vm, client, _):
            end(vm.uuid)
            assert client.closed()


def test_the_vmm_goes_with_the_domain():
    with domain_vm(domain={}) as (vm, client, path):
        played.domain(vm.uuid, state=INACTIVE)
        wait_for(lambda: "VM %s: its domain has stopped\n" % vm.uuid in daemons.log(), "libvirt is heard")
        client.close()
        wait_for(lambda: partition_is_gone(path), "the VM goes")
        assert "VM %s: detached" % vm.uuid not in daemons.log()


def test_a_crashed_domain_goes_on():
    with domain_vm(domain={"run": 3}) as (vm, client, path):
        played.domain(vm.uuid, run=3, state=CRASHED)
        played.domain(vm.uuid, run=3, state=PAUSED)
        played.domain(vm.uuid, run=3)
        time.sleep(6)
        assert daemons.get(path, PARTITION, "State") == "running"
        client.ok(PAUSE)


def test_the_domain_runs_again_in_another_vmm():
    with domain_vm(domain={"run": 3}) as (vm, client, path):
        played.domain(vm.uuid, run=4)
        assert client.closed()
        assert partition_is_gone(path)
        assert "VM %s: detached: its domain runs again, in another VMM" % vm.uuid in daemons.log()


def test_a_domain_that_was_started_again():
    """Its new VMM attaches before libvirt's events have told; or the answer does not come in time."""
    for answers in True, False:
        vm = Vm()
        played.domain(vm.uuid, run=3)
        # Heard before the VM attaches: what comes afterwards is an answer.
        for _ in range(3):
            daemons.call(ROOT, MANAGER, "ListPartitions")
        machined.set({ME: vm.uuid})
        with daemons.client() as c:
            c.version()
            c.send(ATTACH, vm.payload(), vm.fds())
            played.asked()
            if answers:
                played.domain(vm.uuid, run=4, state=PAUSED)
            assert c.receive().error == 0
            played.domain(vm.uuid, run=4)
            played.domain(vm.uuid, run=4, policy="p")
            path = daemons.partition_path(vm.uuid)
            wait_for(lambda: words(path) == ("played", "p"), "libvirt is heard")
            played.domain(vm.uuid, run=5)
            assert c.closed(), "now it is of an earlier run"
        machined.set()
        vm.close()


def test_a_domain_that_is_being_started():
    """Until libvirt says that it runs, it may say anything else."""
    with domain_vm(domain={"state": INACTIVE}) as (vm, client, path):
        played.domain(vm.uuid, state=INACTIVE, policy="p")
        time.sleep(0.2)
        played.domain(vm.uuid, run=7, state=PAUSED)
        played.domain(vm.uuid, run=7)
        wait_for(lambda: words(path)[1] == "", "libvirt is heard")
        assert "VM %s: its domain has stopped" % vm.uuid not in daemons.log()
        client.ok(PAUSE)
        played.domain(vm.uuid, run=8)
        assert client.closed(), "now it is of an earlier run"


def test_the_helper_is_killed():
    monitor = Monitor(daemons)
    with domain_vm(domain={"policy": "kept"}) as (vm, client, path):
        worker = daemons.get(path, PARTITION, "WorkerPid")
        played.kill()
        monitor.wait("PropertiesChanged", ROOT, lambda data: data[1].get("LibvirtState", {}).get("data") == "failed")
        assert "vtld-libvirt was killed by signal 9; trying again" in daemons.log()
        assert words(path) == ("played", "kept")
        client.ok(PAUSE)
        client.ok(CONTINUE)
        played.accept({"uuid": vm.uuid, "policy": "after"})
        monitor.wait("PropertiesChanged", ROOT, lambda data: data[1].get("LibvirtState", {}).get("data") == "connected")
        wait_for(lambda: words(path) == ("played", "after"), "the new helper is heard")
        assert process_state(worker) in ("S", "R") and daemons.get(path, PARTITION, "State") == "running"
    monitor.stop()


def test_a_vm_of_a_domain_waits_for_the_helper():
    vm = Vm()
    machined.set({ME: vm.uuid})
    played.kill()
    wait_for(lambda: daemons.libvirt_state() == "failed", "the helper is missed")
    with daemons.client() as c:
        c.version()
        c.send(ATTACH, vm.payload(), vm.fds())
        played.accept({"uuid": vm.uuid, "name": "patient"})
        assert played.asked() == vm.uuid.bytes
        played.domain(vm.uuid, name="patient")
        assert c.receive().error == 0
        assert words(daemons.partition_path(vm.uuid)) == ("patient", "")
    machined.set()
    vm.close()


def test_the_domain_ends_while_nobody_listens():
    with domain_vm(domain={}) as (vm, client, _):
        played.kill()
        played.accept()
        assert client.closed()
        assert "VM %s: detached: its domain has stopped, and its VMM has not" % vm.uuid in daemons.log()


def test_a_helper_that_sends_garbage():
    own = PlayedDaemons()
    vm = Vm()
    with own.client() as c:
        c.bring_up(vm)
        for data in b"x", os.urandom(324), b"\0" * 324, b"x" * 4000:
            pid = own.libvirt.pid
            own.libvirt.send(data)
            wait_for(lambda: process_ended(pid), "the helper is ended")
            own.libvirt.accept()
            assert own.libvirt.pid != pid
            assert own.libvirt_state() in ("connecting", "connected")
            if data == b"x":
                assert "sends what is no message; killing it" in own.log()
        assert own.get(own.partition_path(vm.uuid), PARTITION, "State") == "running"
        c.ok(PAUSE)
    vm.close()
    own.stop()


def test_a_helper_that_floods():
    own = PlayedDaemons()
    vm = Vm()
    with own.client() as c:
        c.bring_up(vm)
        for i in range(5000):
            own.libvirt.domain(uuid_module.UUID(int=i + 1), name="n%d" % i)
        c.ok(PAUSE)
        wait_for(lambda: "a domain of libvirt is not known here: there are too many" in own.log(), "there is a limit")
        assert own.libvirt_state() == "connected"
    vm.close()
    own.stop()


def test_vtld_without_its_helper():
    own = PlayedDaemons(helper=False)
    wait_for(lambda: own.libvirt_state() == "failed", "it is missed")
    vm = Vm()
    with own.client() as c:
        c.bring_up(vm)
        assert own.get(own.partition_path(vm.uuid), PARTITION, "LibvirtDomain") == ""
    vm.close()
    time.sleep(2)
    assert own.log().count("cannot be started: No such file or directory; trying again") == 1, "said once"
    own.stop()


def test_the_helper_ends_with_vtld():
    for number in signal.SIGTERM, signal.SIGKILL:
        own = PlayedDaemons()
        own.vtld.send_signal(number)
        own.vtld.wait(TIMEOUT)
        wait_for(lambda: process_ended(own.libvirt.pid), "no helper is left")
        own.stop()


# ---- The real one, with libvirt's test driver ----

def test_the_real_helper():
    need_helper()
    own = Daemons("--libvirt-uri=test:///default")
    wait_for(lambda: own.get(ROOT, MANAGER, "LibvirtState") == "connected", "it connects")
    assert "connected to libvirt (test:///default): 1 domains" in own.log()
    pid, = own.workers()
    with open("/proc/%d/comm" % pid) as f:
        assert f.read() == "vtld-libvirt\n"
    with open("/proc/%d/status" % pid) as f:
        status = f.read()
    assert "\nNoNewPrivs:\t1\n" in status
    assert os.environ.get("VTLD_SANITIZED") or "\nSeccomp:\t2\n" in status
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: own.log().count("connected to libvirt (test:///default): 1 domains") == 2, "it is started again")
    assert own.workers() != [pid]
    own.stop()


def test_the_real_helper_with_a_domain():
    need_helper()
    uuid = uuid_module.uuid4()
    directory = tempfile.mkdtemp(prefix="vtld-test-")
    path = os.path.join(directory, "node.xml")
    with open(path, "w") as f:
        f.write("""<node><domain type="test"><name>of-a-file</name><uuid>%s</uuid><memory>1024</memory>
<os><type>hvm</type></os><metadata>
<vtld:policy xmlns:vtld="https://vtld.org/xmlns/libvirt/domain/1.0">hardened</vtld:policy>
</metadata></domain></node>""" % uuid)
    own = Daemons("--libvirt-uri=test://" + path)
    own_machined = Machined(own, machines={ME: uuid})
    vm = Vm(uuid=uuid)
    wait_for(lambda: own.get(ROOT, MANAGER, "LibvirtState") == "connected", "it connects")
    with own.client() as c:
        c.bring_up(vm)
        partition = own.partition_path(uuid)
        assert own.get(partition, PARTITION, "LibvirtDomain") == "of-a-file"
        assert own.get(partition, PARTITION, "LibvirtPolicy") == "hardened"
    vm.close()
    own_machined.stop()
    own.stop()
    shutil.rmtree(directory)


def test_libvirt_is_not_there():
    need_helper()
    own = Daemons("--libvirt-uri=test:///nowhere.xml")
    wait_for(lambda: own.get(ROOT, MANAGER, "LibvirtState") == "failed", "it fails")
    wait_for(lambda: own.log().count("/nowhere.xml") >= 2, "it is tried again")
    assert own.log().count("(test:///nowhere.xml) cannot be asked: ") == 1, "said once"
    vm = Vm()
    with own.client() as c:
        c.bring_up(vm)
    vm.close()
    own.stop()


def end():
    machined.stop()
    daemons.stop()


tap.main(globals(), end)
