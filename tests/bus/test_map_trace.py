#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""GetProtections and ReadTrace: what a worker and a VMM say, honest ones and others."""

import random
import xml.etree.ElementTree as ElementTree

from common import *

END = (1 << 64) - 1
RECORDS = LAYOUT["VTL_TRACE_RECORDS"]
RECORD = struct.Struct("=IBBHQQQ")
SWITCH, HYPERCALL, INTERCEPT, INTERRUPT, VINA = range(1, 6)
CALL, RETURN = 1, 3


def protections(path, gpn=0):
    return daemons.call(path, PARTITION, "GetProtections", "t", str(gpn))


def read_trace(path, *positions):
    return daemons.call(path, PARTITION, "ReadTrace", "at", str(len(positions)), *[str(p) for p in positions])


def write_record(vm, position, vp=0, kind=SWITCH, levels=0x10, detail=CALL, when=None, data=0, extra=0, sequence=None):
    """As the library in a VMM does it."""
    base = CONTROL_HEADER + vp * CONTROL_VP
    when = time.clock_gettime_ns(time.CLOCK_MONOTONIC) if when is None else when
    sequence = (position + 1) & 0xFFFFFFFF if sequence is None else sequence
    os.pwrite(vm.control, RECORD.pack(sequence, kind, levels, detail, when, data, extra),
              base + LAYOUT["vp.trace.records"] + position % RECORDS * RECORD.size)
    os.pwrite(vm.control, struct.pack("=Q", position + 1), base + LAYOUT["vp.trace.next"])


def is_written(vm):
    return vm.control_read("header.tracing") == 1


# ---- GetProtections ----

def test_a_vm_without_protections():
    with running_vm(memory=4 << 20) as (_, _, path, _):
        assert protections(path) == [[[0, 1024, 15]], END]
        assert protections(path, 1000) == [[[1000, 24, 15]], END]
        assert protections(path, 1024) == [[], END]
        for gpn in 1 << 40, END:
            assert protections(path, gpn) == [[], END]


def test_ram_with_holes():
    vm = Vm()
    vm.regions = [(0, 2 << 20, 0), (1 << 32, 2 << 20, 0)]
    vm.ram.append(memfd(2 << 20, SEAL_SHRINK))
    with daemons.client() as client:
        client.bring_up(vm)
        path = daemons.partition_path(vm.uuid)
        assert protections(path) == [[[0, 512, 15], [1 << 20, 512, 15]], END]
        assert protections(path, 512) == [[[1 << 20, 512, 15]], END]
    vm.close()


def test_a_vm_that_does_not_run():
    vm = Vm()
    with daemons.client() as client:
        client.version()
        client.attach(vm)
        path = daemons.partition_path(vm.uuid)
        assert "does not run" in error_of("call", "org.vtld1", path, PARTITION, "GetProtections", "t", "0")
        assert read_trace(path) == [[], [0], [0], 0]
    vm.close()


def ask(path):
    return subprocess.Popen(["busctl", "--address=" + daemons.address, "call", "org.vtld1", path, PARTITION, "GetProtections",
                             "t", "0"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_worker_that_ends_before_it_answers():
    with running_vm() as (_, _, path, pid), running_vm() as (_, _, other, _):
        os.kill(pid, signal.SIGSTOP)
        waiting = [ask(path) for _ in range(3)]
        assert protections(other) == [[[0, 512, 15]], END], "nobody else waits for it"
        time.sleep(0.2)
        assert all(w.poll() is None for w in waiting)
        os.kill(pid, signal.SIGKILL)
        for w in waiting:
            out, err = w.communicate(timeout=TIMEOUT)
            assert w.returncode != 0 and "no worker any more" in err, (out, err)


def test_a_vm_that_goes_while_somebody_waits():
    vm = Vm()
    with daemons.client() as client:
        _, pid = client.bring_up(vm)
        os.kill(pid, signal.SIGSTOP)
        waiting = ask(daemons.partition_path(vm.uuid))
        time.sleep(0.2)
    assert waiting.wait(TIMEOUT) != 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    vm.close()


def test_a_worker_that_comes_back():
    with running_vm() as (_, _, path, pid):
        os.kill(pid, signal.SIGSTOP)
        waiting = [ask(path) for _ in range(12)]
        wait_for(lambda: sum(w.poll() is not None for w in waiting) == 4, "those beyond the limit are refused")
        os.kill(pid, signal.SIGCONT)
        answers = [w.communicate(timeout=TIMEOUT) for w in waiting]
        assert sum("a(ttu)t 1 0 512 15" in out for out, _ in answers) == 8, answers
        assert sum("Too many" in err for _, err in answers) == 4, answers


# ---- ReadTrace ----

def test_traces_are_written_while_somebody_reads():
    with running_vm(vps=2) as (vm, _, path, _):
        assert not is_written(vm)
        assert read_trace(path) == [[], [0, 0], [0, 0], 0]
        begin = time.monotonic()
        wait_for(lambda: is_written(vm), "the worker says so")
        for _ in range(3):
            time.sleep(1)
            assert read_trace(path, 0, 0) == [[], [0, 0], [0, 0], 0]
        begin = time.monotonic()
        wait_for(lambda: not is_written(vm), "and that nobody does", 20)
        assert 2.5 < time.monotonic() - begin < 15, "some seconds after the last time"


def test_records():
    with running_vm(vps=2) as (vm, _, path, _):
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        write_record(vm, 0, when=now - 5, data=0x1000, extra=0x2000)
        write_record(vm, 1, levels=0x01, detail=RETURN | 0x100, when=now - 4, data=END)
        write_record(vm, 0, vp=1, kind=INTERCEPT, detail=0x102, when=now - 3, data=0xC0000080, extra=7)
        first, second, other = ([0, now - 5, SWITCH, 0, 1, CALL, 0x1000, 0x2000],
                                [0, now - 4, SWITCH, 1, 0, RETURN | 0x100, END, 0],
                                [1, now - 3, INTERCEPT, 0, 1, 0x102, 0xC0000080, 7])
        assert read_trace(path) == [[], [2, 1], [0, 0], 0], "without positions, where to begin"
        assert read_trace(path, 0, 0) == [[first, second, other], [2, 1], [0, 0], 0]
        assert read_trace(path, 1, 1) == [[second], [2, 1], [0, 0], 0]
        assert read_trace(path, END, 0) == [[other], [END, 1], [0, 0], 0], "a VP that is left out"
        assert read_trace(path, 2, END) == [[], [2, END], [0, 0], 0]
        for wrong in (0,), (0, 0, 0):
            assert "There are 2 VPs" in error_of("call", "org.vtld1", path, PARTITION, "ReadTrace", "at",
                                                 str(len(wrong)), *map(str, wrong))


def test_what_was_overwritten_and_what_cannot_be():
    with running_vm() as (vm, _, path, _):
        for i in range(RECORDS + 10):
            write_record(vm, i, data=i)
        records, following, lost, rejected = read_trace(path, 0)
        assert [r[6] for r in records] == list(range(10, RECORDS + 10))
        assert (following, lost, rejected) == ([RECORDS + 10], [10], 0)
        position = RECORDS + 10
        for i, wrong in enumerate(({"kind": 0}, {"kind": 6}, {"kind": 255}, {"levels": 0x01}, {"levels": 0xff}, {"detail": 0},
                                   {"detail": 0xffff}, {"when": 0}, {"when": END}, {"kind": VINA, "detail": 256})):
            write_record(vm, position + i, **wrong)
        assert read_trace(path, position) == [[], [position + 10], [0], 10]
        write_record(vm, position + 10, sequence=0)
        assert read_trace(path, position + 10) == [[], [position + 11], [1], 0]


def test_garbage_in_the_rings():
    rng = random.Random(int(os.environ.get("VTLD_TEST_SEED", "1")))
    size = LAYOUT["vp.trace.records"] - LAYOUT["vp.trace.next"] + RECORDS * RECORD.size
    with running_vm(vps=2) as (vm, _, path, pid):
        for _ in range(20):
            for vp in 0, 1:
                os.pwrite(vm.control, rng.randbytes(size), CONTROL_HEADER + vp * CONTROL_VP + LAYOUT["vp.trace.next"])
            for position in 0, rng.randrange(1 << 64), END - 1:
                records, following, lost, _ = read_trace(path, position, position)
                assert len(following) == len(lost) == 2
                for vp, when, kind, before, after, *_ in records:
                    assert vp < 2 and 0 < when <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                    assert SWITCH <= kind <= VINA and before <= 1 and after <= 1
        assert process_state(pid) in ("S", "R")


def test_after_the_worker_is_gone():
    with running_vm() as (vm, client, path, pid):
        write_record(vm, 0, data=5)
        os.kill(pid, signal.SIGKILL)
        client.closed()
        wait_for(lambda: daemons.get(path, PARTITION, "State") == "failed", "the VM has failed")
        assert [r[6] for r in read_trace(path, 0)[0]] == [5], "what it did last can still be read"
        assert "does not run" in error_of("call", "org.vtld1", path, PARTITION, "GetProtections", "t", "0")


# ---- vtlctl ----

def vtlctl(*arguments):
    return subprocess.run([program("vtlctl"), "--bus=" + daemons.address, *arguments], text=True, timeout=TIMEOUT,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def start_trace(*arguments):
    """vtlctl trace; what it prints first has been read when this returns."""
    return subprocess.Popen([program("vtlctl"), "--bus=" + daemons.address, "trace", *arguments], text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def await_reader(vm):
    """The records that come now are seen: the ring is written because somebody has asked where it begins."""
    wait_for(lambda: is_written(vm), "the trace is written")


def test_vtlctl_map():
    with running_vm(name="mapped", memory=4 << 20):
        answer = vtlctl("map", "mapped")
        assert answer.returncode == 0 and re.search(r"0x0 +0x3fffff +4 MiB  RWKU    everything\n", answer.stdout), answer
        assert json.loads(vtlctl("--json", "map", "mapped").stdout)["Runs"] == [
            {"Gpn": 0, "Pages": 1024, "Mask": 15, "Rights": "RWKU"}]
        svg = vtlctl("map", "mapped", "--svg").stdout
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        path = os.path.join(daemons.directory, "map.svg")
        assert vtlctl("map", "mapped", "--svg=" + path).stdout == ""
        with open(path) as f:
            assert f.read() == svg
        for target in "/dev/full", "/nonexistent/x", daemons.directory:
            answer = vtlctl("map", "mapped", "--svg=" + target)
            assert answer.returncode == 1 and target in answer.stderr, answer
    assert vtlctl("map", "mapped").returncode == 1


def test_vtlctl_usage():
    with running_vm(name="used"):
        for arguments in (["map"], ["trace"], ["map", "used", "x"], ["map", "used", "--json", "--svg"], ["list", "--svg"],
                          ["trace", "used", "--format=xml"], ["trace", "used", "--json", "--format=text"],
                          ["trace", "used", "--vp=x"], ["trace", "used", "--vp=64"], ["trace", "used", "--vp=-1"],
                          ["trace", "used", "--count=0"], ["trace", "used", "--count=1x"], ["trace", "used", "--seconds=-1"],
                          ["trace", "used", "--seconds=nan"], ["trace", "used", "--seconds=86401"], ["top", "--seconds=1"]):
            answer = vtlctl(*arguments)
            assert answer.returncode == 64 and not answer.stdout and answer.stderr, (arguments, answer)
        answer = vtlctl("trace", "used", "--vp=1", "--seconds=0")
        assert answer.returncode == 1 and "no such virtual processor" in answer.stderr, answer
        answer = vtlctl("trace", "used", "--seconds=0", "--output=/nonexistent/x")
        assert answer.returncode == 1 and "/nonexistent/x" in answer.stderr, answer
        answer = vtlctl("trace", "used", "--seconds=0", "--output=/dev/full")
        assert answer.returncode == 1 and "/dev/full" in answer.stderr, answer


def test_vtlctl_trace_text():
    with running_vm(vps=2, name="traced") as (vm, _, _, _):
        with start_trace("traced", "--count=3") as trace:
            await_reader(vm)
            write_record(vm, 0, vp=1, kind=HYPERCALL, levels=0x00, detail=0, data=0xD, extra=0x86)
            write_record(vm, 0, data=0x1000, extra=0x2000)
            write_record(vm, 1, kind=0)
            write_record(vm, 2, sequence=0)
            write_record(vm, 3, levels=0x01, detail=RETURN | 0x100, data=0x2000, extra=0x1000)
            out, err = trace.communicate(timeout=TIMEOUT)
        assert trace.returncode == 0 and not err, err
        lines = [re.sub(r"^\d\d:\d\d:\d\d\.\d{6}", "T", line) for line in out.splitlines()]
        assert lines[0].split() == ["TIME", "VP", "VTL", "WHAT"]
        assert sorted(line for line in lines[1:] if line.startswith("T") and "lost" not in line and "left out" not in line) == \
            ["T   0  0 -> 1  call, RIP 0x1000 to 0x2000", "T   0  1 -> 0  return by the VMM, RIP 0x2000 to 0x1000",
             "T   1  0       hypercall EnablePartitionVtl (0x000d): VTL_ALREADY_ENABLED"], lines
        assert sum("1 record lost" in line for line in lines) == 1, lines
        assert sum("1 record left out" in line for line in lines) == 1, lines


def test_vtlctl_trace_of_one_vp():
    with running_vm(vps=2, name="traced") as (vm, _, _, _):
        with start_trace("traced", "--json", "--vp=1") as trace:
            await_reader(vm)
            for i in range(50):
                write_record(vm, i, data=i)
                write_record(vm, i, vp=1, data=i)
            time.sleep(0.3)
            trace.send_signal(signal.SIGINT)
            out, _ = trace.communicate(timeout=TIMEOUT)
        assert trace.returncode == 0
        records = [json.loads(line) for line in out.splitlines()]
        assert [(r["Vp"], r["LeftRip"]) for r in records] == [(1, i) for i in range(50)], out


def test_vtlctl_trace_is_whole_whatever_ends_it():
    def by_signal(number):
        return lambda trace, client, pid: trace.send_signal(number)

    def by_the_vm(trace, client, pid):
        client.close()

    ends = by_signal(signal.SIGINT), by_signal(signal.SIGTERM), by_the_vm
    for i, end in enumerate(ends):
        path = os.path.join(daemons.directory, "trace.json")
        with running_vm(name="traced") as (vm, client, _, pid):
            with start_trace("traced", "--format=perfetto", "--output=" + path) as trace:
                await_reader(vm)
                for n in range(2000):
                    write_record(vm, n, levels=0x01 if n & 1 else 0x10, detail=RETURN if n & 1 else CALL)
                time.sleep(0.3)
                end(trace, client, pid)
                _, err = trace.communicate(timeout=TIMEOUT)
            assert trace.returncode == 0, err
            assert ("the VM is gone" in err) == (end is by_the_vm), err
            with open(path) as f:
                events = json.load(f)["traceEvents"]
            lost = sum(e["args"]["records"] for e in events if e["name"] == "records lost")
            slices = [e for e in events if e["ph"] == "X"]
            assert slices and "%d records" % (2000 - lost) in err and "%d lost" % lost in err, (i, err, lost)
            assert all(e["tid"] == 1 and e["dur"] >= 0 for e in slices)


def test_vtlctl_trace_by_time():
    with running_vm(name="traced"):
        begin = time.monotonic()
        answer = vtlctl("trace", "traced", "--seconds=1", "--format=json")
        assert answer.returncode == 0 and answer.stdout == "", answer
        assert 1 <= time.monotonic() - begin < 10


def test_vtlctl_trace_without_a_service():
    own = Daemons()
    vm = Vm(name="traced")
    with own.client() as client:
        client.bring_up(vm)
        with subprocess.Popen([program("vtlctl"), "--bus=" + own.address, "trace", "traced", "--format=perfetto"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as trace:
            await_reader(vm)
            own.vtld.kill()
            own.vtld.wait()
            out, err = trace.communicate(timeout=TIMEOUT)
        assert trace.returncode == 1 and err, (trace.returncode, err)
        assert json.loads(out)["traceEvents"], "what was written is whole all the same"
    own.stop()
    vm.close()


run(globals())
