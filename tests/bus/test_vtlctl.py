#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtlctl: tables for people, JSON for programs, and what it says when it cannot."""

import pty

from common import *

EX_USAGE = 64


def vtlctl(*arguments, bus=None, **more):
    return subprocess.run([program("vtlctl"), "--bus=" + (bus or daemons.address), *arguments], text=True,
                          timeout=TIMEOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          **more)


def output(*arguments):
    answer = vtlctl(*arguments)
    assert answer.returncode == 0 and not answer.stderr, answer
    return answer.stdout


def failure(text, *arguments, status=1):
    answer = vtlctl(*arguments)
    assert answer.returncode == status and not answer.stdout and text in answer.stderr, answer


def on_a_terminal(*arguments):
    parent, child = pty.openpty()
    process = subprocess.Popen([program("vtlctl"), "--bus=" + daemons.address, *arguments], stdout=child)
    os.close(child)
    text = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(parent, 4096):
            text += chunk
    process.wait(TIMEOUT)
    os.close(parent)
    return text.decode()


def test_without_vms():
    assert output("list") == "No VM is attached.\n"
    assert json.loads(output("list", "--json")) == []
    assert re.fullmatch(r"vtld \S+, 0 of at most 64 VMs\n", output("status"))
    status = json.loads(output("--json", "status"))
    assert status["VirtualMachines"] == [] and status["MaxPartitions"] == 64 and status["ObjectPath"] == ROOT


def test_list():
    with running_vm(name="zwei", vps=2) as (vm, _, _, _), running_vm(name="größe") as (other, _, _, _):
        lines = output("list").rstrip("\n").split("\n")
        assert lines[0].split()[:5] == ["UUID", "NAME", "STATE", "VPS", "VTLS"]
        assert [line.split()[:6] for line in lines[1:]] == [
            [str(other.uuid), "größe", "running", "1", "0", "allowed"],
            [str(vm.uuid), "zwei", "running", "2", "0", "allowed"],
        ], "sorted by name"
        assert len({line.index(" running") for line in lines[1:]}) == 1, "columns are straight, also with umlauts"
        assert "\033" not in "".join(lines), "no colours into a pipe"
        vms = json.loads(output("list", "--json"))
        assert [v["Name"] for v in vms] == ["größe", "zwei"]
        assert [len(v["VirtualProcessors"]) for v in vms] == [1, 2]


def test_json_is_what_the_bus_says():
    with running_vm(vps=3) as (vm, _, path, _):
        shown = json.loads(output("status", str(vm.uuid), "--json"))
        assert shown.pop("ObjectPath") == path
        vps = shown.pop("VirtualProcessors")
        assert shown == daemons.get_all(path, PARTITION)
        assert [vp.pop("ObjectPath") for vp in vps] == [path + "/vp/%d" % i for i in range(3)]
        assert vps == [daemons.get_all(path + "/vp/%d" % i, PROCESSOR) for i in range(3)]
        assert json.loads(output("vp", str(vm.uuid), "--json"))[1]["Index"] == 1


def test_large_numbers_survive():
    with running_vm() as (vm, _, _, _):
        vm.control_write("vp.stats", struct.pack("=Q", (1 << 64) - 1), vp=0)
        assert json.loads(output("vp", str(vm.uuid), "--json"))[0]["VtlCalls"] == (1 << 64) - 1
        assert "18446744073709551615" in output("vp", str(vm.uuid))


def test_status_of_one():
    with running_vm(name="a name", vps=2) as (vm, client, _, pid):
        text = output("status", "a name")
        assert text.startswith("a name (%s)\n" % vm.uuid)
        for line in ("State: running", "VMM: process %d, user %d" % (os.getpid(), os.getuid()),
                     "Worker: process %d" % pid, "Policy: all: VTL1 allowed", "VTLs enabled: 0",
                     "execute: none, DMA: none, start-up denial: none"):
            assert line in text, (line, text)
        assert text.count("\n") >= 12, "the VPs follow"
        os.kill(pid, signal.SIGKILL)
        client.closed()
        assert "State: failed" in output("status", "a name") and "Worker: none" in output("status", "a name")


def test_vps():
    with running_vm(vps=12) as (vm, _, _, _):
        lines = output("vp", str(vm.uuid)).rstrip("\n").split("\n")
        assert lines[0].split()[:3] == ["VP", "APIC", "VTL"]
        assert [int(line.split()[0]) for line in lines[1:]] == list(range(12)), "in the order of numbers"


def test_ways_to_name_a_vm():
    first, second = (uuid_module.UUID("aaaa%s-1111-4111-8111-111111111111" % x) for x in ("1111", "2222"))
    with running_vm(name="machine", uuid=first), running_vm(name="machinery", uuid=second):
        for what, expected in ((str(first), first), (str(first).upper(), first), ("aaaa1", first), ("AAAA2", second),
                               ("machine", first), ("machiner", second), ("machinery", second)):
            assert json.loads(output("status", "--json", what))["Uuid"] == str(expected), what
        for what in "aaaa", "mach", "m":
            failure("may be one of 2 VMs", "status", what)
        for what in "b", "", "machineryx":
            failure("no VM is named", "vp", what)
    with running_vm(name="same"), running_vm(name="same"):
        failure("may be one of 2 VMs; use the UUID", "status", "same")


def test_colours_on_a_terminal_only():
    with running_vm():
        assert "\033[32mrunning" in on_a_terminal("list")
        os.environ["NO_COLOR"] = "1"
        assert "\033" not in on_a_terminal("list")
        del os.environ["NO_COLOR"]
        assert "\033" not in on_a_terminal("list", "--json")


def test_monitor():
    for json_too in False, True:
        process = subprocess.Popen([program("vtlctl"), "--bus=" + daemons.address, "monitor"] +
                                   (["--json"] if json_too else []), stdout=subprocess.PIPE, text=True)
        if json_too:
            time.sleep(0.5)
        else:
            assert process.stdout.readline() == "Listening; end with Ctrl-C.\n"
        with running_vm(name="watched") as (vm, client, _, pid):
            os.kill(pid, signal.SIGKILL)
            client.closed()
            time.sleep(0.3)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
        if json_too:
            events = [json.loads(line) for line in text.rstrip("\n").split("\n")]
            kinds = [e["Event"] for e in events]
            assert kinds[0] == "InterfacesAdded" and kinds[-1] == "InterfacesRemoved", kinds
            assert {e["Uuid"] for e in events} == {str(vm.uuid)}
            assert [e["Reason"] for e in events if e["Event"] == "WorkerFailed"] == ["killed by signal SIGKILL"]
            assert any(e.get("Changed", {}).get("State") == "failed" for e in events)
        else:
            for words in "attached", "THE WORKER IS GONE  Reason=killed by signal SIGKILL", "gone":
                assert "%s  %s" % (vm.uuid, words) in text, text


def test_monitor_tells_when_the_service_ends():
    own = Daemons()
    process = subprocess.Popen([program("vtlctl"), "--bus=" + own.address, "monitor"], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    own.vtld.terminate()
    assert process.stdout.readline() == "vtld has ended\n"
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    own.stop()


def test_no_service_and_no_bus():
    own = Daemons()
    own.vtld.terminate()
    own.vtld.wait(TIMEOUT)
    answer = vtlctl("list", bus=own.address)
    assert answer.returncode == 1 and answer.stderr == "vtlctl: vtld is not on this bus\n", answer
    own.stop()
    answer = vtlctl("list", bus="unix:path=/nowhere")
    assert answer.returncode == 1 and "cannot connect to the bus" in answer.stderr


def test_usage():
    for arguments in ([], ["dance"], ["list", "x"], ["vp"], ["vp", "a", "b"], ["status", "a", "b"], ["--nonsense"],
                      ["--bus"], ["monitor", "x"]):
        answer = vtlctl(*arguments)
        assert answer.returncode == EX_USAGE and answer.stderr and not answer.stdout, (arguments, answer)
    answer = vtlctl("--help")
    assert answer.returncode == 0
    for verb in "list", "status", "vp", "monitor", "--json", "--bus", "--version":
        assert verb in answer.stdout
    assert vtlctl("--version").stdout.startswith("vtlctl ")


def test_completion():
    script = os.path.join(SRCDIR, "data", "vtlctl.bash")

    def complete(*words):
        code = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _vtlctl; '
                'printf "%s\\n" "${COMPREPLY[@]}"')
        path = os.path.dirname(program("vtlctl")) + ":" + os.environ["PATH"]
        return subprocess.run(["bash", "-c", code, "bash", script, *words], text=True, stdout=subprocess.PIPE,
                              env={**os.environ, "PATH": path}, timeout=TIMEOUT).stdout.split()
    assert complete("vtlctl", "") == ["list", "status", "vp", "monitor"]
    assert complete("vtlctl", "st") == ["status"]
    assert complete("vtlctl", "--j") == ["--json"]
    with running_vm() as (vm, _, _, _):
        assert complete("vtlctl", "--bus=" + daemons.address, "vp", str(vm.uuid)[:3]) == [str(vm.uuid)]
    assert complete("vtlctl", "list", "") == []


run(globals())
