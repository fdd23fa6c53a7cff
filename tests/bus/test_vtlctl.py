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
        try:
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
        finally:
            # Also where there is no KVM, and this ends here.
            process.kill()
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
                      ["--bus"], ["monitor", "x"], ["domain"], ["domain", "enable", "a", "b", "c"], ["--connect"]):
        answer = vtlctl(*arguments)
        assert answer.returncode == EX_USAGE and answer.stderr and not answer.stdout, (arguments, answer)
    answer = vtlctl("--help")
    assert answer.returncode == 0
    for verb in "list", "status", "vp", "monitor", "domain", "--json", "--bus", "--connect", "--version":
        assert verb in answer.stdout
    assert vtlctl("--version").stdout.startswith("vtlctl ")


def test_top():
    """Counters that this test sets: a VM that really runs is in tests/policy."""
    with running_vm(name="busy", vps=2) as (vm, _, _, _):
        process = subprocess.Popen([program("vtlctl"), "--bus=" + daemons.address, "top", "--json", "--interval=1",
                                    "--count=2", "busy"], stdout=subprocess.PIPE, text=True)
        looks = []
        for n in 1, 2:
            # More than anybody looks at in between
            time.sleep(0.3)
            vm.control_write("vp.stats", struct.pack("=Q", n * 1000), vp=1)
            looks.append(json.loads(process.stdout.readline()))
        assert process.wait(TIMEOUT) == 0
        for look in looks:
            assert look["Seconds"] >= 1 and [vp["Name"] for vp in look["VirtualProcessors"]] == ["busy", "busy"]
        assert sum(look["Seconds"] * look["VirtualProcessors"][0]["Switches"] for look in looks) <= 2001
        assert looks[0]["VirtualProcessors"][0]["Vp"] == 1 and looks[0]["VirtualProcessors"][0]["Switches"] > 0
        assert looks[0]["VirtualProcessors"][1]["Switches"] == 0


def test_top_without_vms():
    lines = output("top", "--interval=0.1", "--count=2").split("\n")
    assert len(lines) == 7 and lines[0].startswith("0 VPs, in the last 0.") and lines[1].split()[:3] == ["VM", "VP", "VTL"]
    looks = [json.loads(line) for line in output("top", "--json", "--interval=0.1", "--count=3").splitlines()]
    assert len(looks) == 3 and all(look["VirtualProcessors"] == [] and look["Seconds"] >= 0.1 for look in looks)
    assert on_a_terminal("top", "--interval=0.1", "--count=2").count("\033[H\033[J") == 2
    assert "\033" not in on_a_terminal("top", "--json", "--interval=0.1", "--count=1")
    failure("no VM is named", "top", "nobody", "--count=1")
    for bad in "--interval=0", "--interval=x", "--interval=", "--interval=nan", "--interval=3601", "--count=0", \
            "--count=-1", "--count=1x", "--count=", "--root=/":
        failure("vtlctl --help", "top", bad, status=EX_USAGE)
    failure("vtlctl --help", "list", "--count=1", status=EX_USAGE)


def test_top_ends_when_interrupted():
    process = subprocess.Popen([program("vtlctl"), "--bus=" + daemons.address, "top", "--json", "--interval=0.1"],
                               stdout=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["VirtualProcessors"] == []
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


# ---- Domains, with libvirt's test driver ----

NODE = """<node>
<domain type="test"><name>zwei</name><uuid>22222222-1111-4111-8111-111111111111</uuid><memory>1024</memory>
<os><type>hvm</type></os><metadata>
<vtld:policy xmlns:vtld="https://vtld.org/xmlns/libvirt/domain/1.0"> hardened </vtld:policy></metadata></domain>
<domain type="test"><name>größe</name><uuid>11111111-1111-4111-8111-111111111111</uuid><memory>1024</memory>
<os><type>hvm</type></os></domain>
<domain type="test"><name>a&#9;tab</name><uuid>33333333-1111-4111-8111-111111111111</uuid><memory>1024</memory>
<os><type>hvm</type></os><metadata>
<x:policy xmlns:x="https://vtld.org/xmlns/libvirt/domain/1.0"><b/></x:policy></metadata></domain>
</node>"""


@contextlib.contextmanager
def node():
    """Options for a libvirt with the domains above"""
    os.environ["VTLCTL_LIBVIRT"] = need_helper()
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as f:
        f.write(NODE)
        f.flush()
        yield "--connect=test://" + f.name


def test_domain_show():
    with node() as connect:
        assert [line.split() for line in output(connect, "domain", "show").rstrip("\n").split("\n")] == [
            ["UUID", "NAME", "STATE", "POLICY"],
            ["33333333-1111-4111-8111-111111111111", "a\\x09tab", "running",
             *"malformed: the element contains more than a text".split()],
            ["11111111-1111-4111-8111-111111111111", "größe", "running", "-"],
            ["22222222-1111-4111-8111-111111111111", "zwei", "running", "hardened"],
        ], "sorted by name"
        shown = json.loads(output("domain", "show", "--json", connect))
        assert shown[2] == {"Name": "zwei", "Uuid": "22222222-1111-4111-8111-111111111111", "State": "running",
                            "Policy": "hardened"}
        assert shown[0]["Policy"] == "" and shown[0]["Error"] == "the element contains more than a text"
        for what in "zwei", "22222222-1111-4111-8111-111111111111":
            assert [d["Name"] for d in json.loads(output("domain", "show", what, "--json", connect))] == ["zwei"]
        failure("drei: Domain not found", connect, "domain", "show", "drei")


def test_domain_enable_and_disable():
    with node() as connect:
        live = "; counts when its VM attaches again\n"
        assert output(connect, "domain", "enable", "größe") == "größe: policy default" + live
        assert output(connect, "domain", "enable", "zwei", "A.b-c_9") == "zwei: policy A.b-c_9" + live
        assert output(connect, "domain", "disable", "22222222-1111-4111-8111-111111111111") == "zwei: no policy" + live
        failure("drei: Domain not found", connect, "domain", "enable", "drei")
        failure("drei: Domain not found", connect, "domain", "disable", "drei")


def test_domain_usage():
    os.environ["VTLCTL_LIBVIRT"] = need_helper()
    for arguments in (["dance"], ["enable"], ["disable"], ["enable", "a", "b c"], ["enable", "a", ""],
                      ["enable", "a", "x" * 33], ["disable", "a", "b"], ["show", "a", "b"]):
        failure("vtlctl: domain: ", "domain", *arguments, "--connect=test:///default", status=EX_USAGE)


def test_domain_without_libvirt():
    need_helper()
    failure("vtlctl: test:///nowhere.xml: ", "domain", "show", "--connect=test:///nowhere.xml")
    os.environ["VTLCTL_LIBVIRT"] = "/nowhere/vtld-libvirt"
    failure("vtlctl: /nowhere/vtld-libvirt: not installed", "domain", "show")


def test_domain_needs_no_bus():
    with node() as connect:
        answer = vtlctl(connect, "domain", "show", "zwei", bus="unix:path=/nowhere")
        assert answer.returncode == 0 and "hardened" in answer.stdout, answer


def test_the_helper_is_not_for_hands():
    helper = need_helper()
    for arguments in ([], ["x"], ["--fd=0"], ["--fd=x", "test:///default"], ["--edit=show", "--fd=0"], ["--dance"],
                      ["--fd=0", "--log-level=9", "test:///default"], ["--fd=0", "test:///default", "x"]):
        answer = subprocess.run([helper, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, timeout=TIMEOUT)
        assert answer.returncode == EX_USAGE and "Not for use by hand" in answer.stderr, (arguments, answer)
    for option, text in ("--version", "vtld-libvirt "), ("--help", "Usage:"):
        assert subprocess.run([helper, option], stdout=subprocess.PIPE, text=True,
                              check=True).stdout.startswith(text)


def test_only_the_helper_is_linked_with_libvirt():
    helper = need_helper()
    for path in program("vtld"), program("vtlctl"), helper:
        out = subprocess.run(["readelf", "-d", path], stdout=subprocess.PIPE, text=True, check=True).stdout
        assert ("libvirt" in out) == (path == helper), path
        assert path == helper or "libxml2" not in out, path


def complete(*words):
    """What bash offers behind these words"""
    script = os.path.join(SRCDIR, "data", "vtlctl.bash")
    code = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _vtlctl; '
            'printf "%s\\n" "${COMPREPLY[@]}"')
    path = os.path.dirname(program("vtlctl")) + ":" + os.environ["PATH"]
    return subprocess.run(["bash", "-c", code, "bash", script, *words], text=True, stdout=subprocess.PIPE,
                          env={**os.environ, "PATH": path}, timeout=TIMEOUT).stdout.split()


def test_completion():
    assert complete("vtlctl", "") == ["list", "status", "vp", "top", "monitor", "detach", "map", "registers", "trace",
                                        "quote", "check-host", "policy", "domain"]
    assert complete("vtlctl", "domain", "") == ["enable", "disable", "show"]
    assert complete("vtlctl", "st") == ["status"]
    assert complete("vtlctl", "--j") == ["--json"]
    assert complete("vtlctl", "check-host", "--ro") == ["--root="]
    assert complete("vtlctl", "map", "--s") == ["--svg", "--svg="]
    assert complete("vtlctl", "trace", "--se") == ["--seconds="]
    assert complete("vtlctl", "trace", "--format", "=", "p") == ["perfetto"]
    with running_vm() as (vm, _, _, _):
        assert complete("vtlctl", "--bus=" + daemons.address, "vp", str(vm.uuid)[:3]) == [str(vm.uuid)]
    assert complete("vtlctl", "list", "") == []


def test_completion_of_domains():
    with node() as connect:
        for act in "show", "enable", "disable":
            assert complete("vtlctl", connect, "domain", act, "22") == ["22222222-1111-4111-8111-111111111111"]
        # As bash splits it
        option, uri = connect.split("=")
        scheme, rest = uri.split(":")
        assert len(complete("vtlctl", "domain", "show", option, "=", scheme, ":", rest, "")) == 3
        assert complete("vtlctl", connect, "domain", "enable", "zwei", "") == []


run(globals())
