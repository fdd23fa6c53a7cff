#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filters of system calls: what they forbid is forbidden, and who is concerned."""

from common import *

daemons.stop()

PRELOAD = os.path.join(BUILDDIR, "tests", "lib", ".libs", "forbidden.so")
KILLED = ["create", "open", "socket", "mmap", "mprotect", "execve", "ptrace", "unshare", "kill", "rename", "clone3"]
REFUSED = ["create", "truncate", "socket", "mmap", "mprotect", "ptrace", "unshare", "kill", "chmod", "rename", "prlimit"]
ALLOWED = ["getpid", "open"]


def need_filters():
    if os.environ.get("VTLD_SANITIZED"):
        raise Skip("a build with a sanitizer has no filters")
    if not os.path.exists(PRELOAD):
        raise RuntimeError("no %s; make check builds it" % PRELOAD)


@contextlib.contextmanager
def taken_over(calls):
    """vtld with somebody in it who makes @calls"""
    need_filters()
    need_vm()
    preload = [p for p in (fake_vm_environment().get("LD_PRELOAD"), os.path.abspath(PRELOAD)) if p]
    own = Daemons(environment={"LD_PRELOAD": ":".join(preload), "VTLD_TEST_FORBIDDEN": calls})
    try:
        yield own
    finally:
        own.stop()


@contextlib.contextmanager
def two_vms(own):
    vms = Vm(name="one"), Vm(name="other")
    clients = own.client(), own.client()
    pids = [c.bring_up(vm)[1] for c, vm in zip(clients, vms)]
    try:
        yield vms, clients, pids
    finally:
        for each in clients + vms:
            each.close()


def test_a_worker_that_tries_is_killed_and_only_it():
    for call in KILLED:
        with taken_over("worker=" + call) as own, two_vms(own) as ((vm, other), (client, other_client), (_, other_pid)):
            monitor = Monitor(own)
            path, other_path = own.partition_path(vm.uuid), own.partition_path(other.uuid)
            # The event of a crash is its second message; the MSR's write is not answered any more.
            vm.control_write("vp.exit.kind", LAYOUT["VTL_EXIT_WRMSR"], vp=0)
            vm.control_write("vp.exit.msr", 0x40000105, vp=0)
            vm.control_write("vp.exit.data", struct.pack("=Q", 1 << 63), vp=0)
            vm.control_write("vp.mailbox", LAYOUT["VTL_MAILBOX_EXIT"], vp=0)
            assert monitor.wait("WorkerFailed", path)["data"] == ["killed by signal SIGSYS"], call
            assert link_hung_up(client.link), "its monitor is told"
            assert own.get(path, PARTITION, "State") == "failed"
            assert own.get(other_path, PARTITION, "State") == "running"
            assert process_state(other_pid) in ("S", "R") and not link_hung_up(other_client.link, timeout=0)
            other_client.ok(PAUSE)
            assert len(monitor.signals("WorkerFailed")) == 1
            third = Vm(name="third")
            with own.client() as c:
                c.bring_up(third)
            third.close()
            assert own.vtld.poll() is None
            monitor.stop()


def test_the_same_with_a_call_that_a_worker_needs():
    with taken_over("worker=getpid") as own, two_vms(own) as ((vm, _), _, (pid, _)):
        vm.crash([1, 2, 3, 4, 5])
        wait_for(lambda: own.get(own.partition_path(vm.uuid), PARTITION, "Crashes") == 1, "the event has come")
        assert process_state(pid) in ("S", "R")


def test_the_broker_is_refused_it_and_goes_on():
    with taken_over("broker=" + ",".join(REFUSED + ALLOWED + ["clone3"])) as own:
        with two_vms(own) as (_, clients, _):
            for c in clients:
                c.ok(PAUSE)
            own.reload()
        results = dict(re.findall(r"(?m)^system call (\w+): (\d+)$", own.log()))
        assert {name: int(results[name]) for name in REFUSED} == dict.fromkeys(REFUSED, errno.EPERM), results
        assert {name: int(results[name]) for name in ALLOWED} == dict.fromkeys(ALLOWED, 0), results
        assert int(results["clone3"]) == errno.ENOSYS, "and the C library takes clone()"
        assert own.get(ROOT, MANAGER, "PolicyError") == ""


def test_without_the_filter_none_of_them_is_refused():
    need_filters()
    # The same before vtld takes anything away from itself: it says what a connection gets, and is no vtld.
    code = ("import ctypes, os, socket; s = socket.socket(socket.AF_UNIX); s.bind(''); s.listen(); "
            "c = socket.socket(socket.AF_UNIX); c.connect(s.getsockname()); "
            "ctypes.CDLL(None).accept4(s.fileno(), None, None, 0)")
    answer = subprocess.run(["/usr/bin/python3", "-c", code], stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                            env={**os.environ, "LD_PRELOAD": os.path.abspath(PRELOAD),
                                 "VTLD_TEST_FORBIDDEN": "broker=" + ",".join(REFUSED)})
    results = dict(re.findall(r"(?m)^system call (\w+): (\d+)$", answer.stderr))
    assert set(results) == set(REFUSED), answer.stderr
    refused = [name for name in REFUSED if int(results[name]) == errno.EPERM]
    assert not refused, "refused here by something else: %s" % refused


def test_what_the_broker_starts_can_work():
    """Its filter goes over to workers and vtld-libvirt: it must have what is in theirs, and each call has its reason."""
    rows = {}
    for name in "sandbox.c", "sandbox-broker.c", "libvirt-sandbox.c":
        with open(os.path.join(SRCDIR, "daemon", name)) as f:
            text = f.read()
        rows[name] = set(re.findall(r"SCMP_SYS\((\w+)\)", text))
        plain = re.findall(r'(?m)^        \{ SCMP_SYS\((\w+)\), *(?:\n *)?"([^"]+)" \},$', text)
        assert len(plain) == len({call for call, _ in plain}) > 15, "one row for each call in %s" % name
        assert all(reason.strip() for _, reason in plain)
    for name in "sandbox.c", "libvirt-sandbox.c":
        assert rows[name] <= rows["sandbox-broker.c"], (name, rows[name] - rows["sandbox-broker.c"])


run(globals())
