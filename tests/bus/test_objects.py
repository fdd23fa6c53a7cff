#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The objects of a VM: when they are there, where, and what they say."""

from common import *


def test_manager_without_vms():
    properties = daemons.get_all(ROOT, MANAGER)
    assert re.fullmatch(r"\d+\.\d+.*", properties["Version"])
    assert properties["Partitions"] == 0 and properties["MaxPartitions"] == 64
    assert properties["LibvirtState"] == "off"
    assert daemons.call(ROOT, MANAGER, "ListPartitions")[0] == []
    assert not [path for path in managed() if path != ROOT]


def test_paths():
    with running_vm(vps=2) as (vm, _, path, _):
        assert path == ROOT + "/partition/" + encode(str(vm.uuid))
        assert set(managed()) - {ROOT} == {path, path + "/vp/0", path + "/vp/1"}
        tree = daemons.busctl("--list", "tree", "org.vtld1").stdout.split()
        assert path in tree and path + "/vp/0" in tree and path + "/vp/1" in tree


def test_uuids_whose_paths_need_every_kind_of_escape():
    for text in "01234567-89ab-4def-8123-456789abcdef", "f1234567-89ab-4def-8123-456789abcdef":
        with running_vm(uuid=uuid_module.UUID(text)) as (_, _, path, _):
            assert path == ROOT + "/partition/" + encode(text)
            assert daemons.get(path, PARTITION, "Uuid") == text


def test_manager_with_vms():
    with running_vm(name="one") as (vm, _, path, _), running_vm(name="two") as (other, _, other_path, _):
        assert daemons.get(ROOT, MANAGER, "Partitions") == 2
        listed = daemons.call(ROOT, MANAGER, "ListPartitions")[0]
        assert sorted(map(tuple, listed)) == sorted([(str(vm.uuid), "one", path), (str(other.uuid), "two", other_path)])
        assert daemons.call(ROOT, MANAGER, "GetPartition", "s", str(vm.uuid).upper())[0] == path


def test_errors_of_get_partition():
    nobody = str(uuid_module.uuid4())
    assert "No VM of UUID " + nobody in error_of("call", "org.vtld1", ROOT, MANAGER, "GetPartition", "s", nobody)
    for bad in "", "x", nobody[:-1], nobody + "0", nobody.replace("-", "", 1):
        assert "not a UUID" in error_of("call", "org.vtld1", ROOT, MANAGER, "GetPartition", "s", bad)
    answer = subprocess.run(["dbus-send", "--bus=" + daemons.address, "--print-reply", "--dest=org.vtld1", ROOT,
                             MANAGER + ".GetPartition", "string:" + nobody],
                            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    assert "org.vtld1.Error.NoSuchPartition" in answer.stderr


def test_properties_of_a_partition():
    before = time.time()
    with running_vm(vps=3, name="eine VM") as (vm, client, path, pid):
        properties = daemons.get_all(path, PARTITION)
        attached = properties.pop("AttachedAt") / 1e6
        assert before - 1 < attached < time.time() + 1
        assert properties == {
            "Uuid": str(vm.uuid), "Name": "eine VM", "Vmm": os.getpid(), "VmmUid": os.getuid(), "VpCount": 3,
            "State": "running", "WorkerPid": pid, "PolicyName": "all", "Vtl1Allowed": True,
            "LibvirtDomain": "", "LibvirtPolicy": "",
            "EnabledVtls": 1, "ProtectionEnabled": False, "PartitionConfig": 0,
            "Backend": "stock", "FaultPrecision": "imprecise", "ExecuteEnforcement": "none",
            "DmaEnforcement": "none", "StartupDenial": "none",
            "ProtectedPages": 0, "Intercepts": 0, "Denied": 0, "MeasurementState": "none", "MeasurementDigest": "",
            "Unenforced": [], "UnenforcedCrIntercepts": [], "Mappings": 0, "MappingsMax": 0, "ProtectionsRefused": 0,
            "StrictPages": 0, "StrictSteps": 0, "Crashes": 0, "CrashVtl": 0, "CrashParameters": [],
        }


def test_fault_precision_is_what_the_vmm_measured():
    vm = Vm()
    vm.flags = 1
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        assert daemons.get(daemons.partition_path(vm.uuid), PARTITION, "FaultPrecision") == "precise"
    vm.close()


def test_properties_of_a_vp():
    vm = Vm(vps=2)
    vm.apic_ids = [0, 0x120]
    with daemons.client() as c:
        c.bring_up(vm)
        path = daemons.partition_path(vm.uuid)
        properties = daemons.get_all(path + "/vp/1", PROCESSOR)
        assert properties == {
            "Index": 1, "ApicId": 0x120, "EnabledVtls": 1, "ActiveVtl": 0, "SuspendedVtls": 0,
            "PendingEventVtls": 0, "VinaEnabled": False, "Halted": False, "VtlCalls": 0, "VtlReturns": 0,
            "FastSwitches": 0, "InterruptEntries": 0, "Hypercalls": 0, "Intercepts": 0, "EngineExits": 0,
            "VcpuIoctls": 0,
        }
    vm.close()


def test_counters_are_read_from_the_control_memory():
    with running_vm() as (vm, _, path, _):
        vm.control_write("vp.stats", struct.pack("=8Q", *range(11, 19)), vp=0)
        properties = daemons.get_all(path + "/vp/0", PROCESSOR)
        names = ("VtlCalls", "VtlReturns", "FastSwitches", "InterruptEntries", "Hypercalls", "Intercepts",
                 "EngineExits", "VcpuIoctls")
        assert [properties[name] for name in names] == list(range(11, 19))
        vm.control_write("vp.vina", struct.pack("=Q", 0x141), vp=0)
        vm.control_write("vp.halted", 1, vp=0)
        properties = daemons.get_all(path + "/vp/0", PROCESSOR)
        assert properties["VinaEnabled"] is True and properties["Halted"] is True


def test_states():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        path = daemons.partition_path(vm.uuid)
        assert daemons.get(path, PARTITION, "State") == "attached"
        assert daemons.get(path, PARTITION, "WorkerPid") == 0
        c.add_vps(vm)
        c.start()
        assert daemons.get(path, PARTITION, "State") == "running"
        c.ok(PAUSE)
        assert daemons.get(path, PARTITION, "State") == "paused"
        c.ok(CONTINUE)
        assert daemons.get(path, PARTITION, "State") == "running"
    vm.close()


def test_objects_that_there_are_not():
    with running_vm() as (vm, _, path, _):
        for missing in (ROOT + "/partition/nobody", path + "/vp/1", path + "/vp/00", path + "/vp/_30", path + "/vp/x",
                        path + "/vp/64", path + "/vp/-1".replace("-", "_2d"), path + "/vp",
                        ROOT + "/partition/" + encode(str(vm.uuid).upper()) + "x"):
            for interface in PARTITION, PROCESSOR:
                error_of("get-property", "org.vtld1", missing, interface, "Uuid")


def test_nothing_can_be_written():
    with running_vm() as (_, _, path, _):
        assert "read-only" in error_of("set-property", "org.vtld1", path, PARTITION, "State", "s", "running").lower() \
            or "not writable" in error_of("set-property", "org.vtld1", path, PARTITION, "State", "s", "running")


def test_added_and_removed_signals():
    monitor = Monitor(daemons)
    with running_vm(vps=2) as (_, _, path, _):
        added = [monitor.wait("InterfacesAdded", ROOT, lambda data, p=p: data[0] == p)["data"][1]
                 for p in (path, path + "/vp/0", path + "/vp/1")]
        assert PARTITION in added[0] and PROCESSOR in added[1] and PROCESSOR in added[2]
        assert added[0][PARTITION]["Name"]["data"] == "test-vm"
    for p in path, path + "/vp/0", path + "/vp/1":
        removed = monitor.wait("InterfacesRemoved", ROOT, lambda data, p=p: data[0] == p)["data"][1]
        assert (PARTITION if p == path else PROCESSOR) in removed
    counts = [s["data"][1]["Partitions"]["data"] for s in monitor.signals("PropertiesChanged", ROOT)]
    assert counts == [1, 0]
    monitor.stop()


def test_sixty_four_vms():
    vms, clients = [], []
    try:
        for i in range(64):
            vms.append(Vm(name="vm-%d" % i))
            clients.append(daemons.client())
            clients[-1].bring_up(vms[-1])
        assert daemons.get(ROOT, MANAGER, "Partitions") == 64
        assert len(daemons.workers()) == 64
        assert len(set(managed()) - {ROOT}) == 128
    finally:
        for client in clients:
            client.close()
        for vm in vms:
            vm.close()
    wait_for(lambda: daemons.get(ROOT, MANAGER, "Partitions") == 0, "all VMs are gone")
    wait_for(lambda: not daemons.workers(), "all workers are gone")
    daemons.nothing_leaked()


run(globals())
