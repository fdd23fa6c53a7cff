#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may call Reload and Detach: root, and whom polkit lets; what happens when polkit does not answer well."""

from common import *

NOBODY = 65534
ALLOW, REFUSE = ("[match all]\nname=*\nallow-vtl1=%s\n" % word for word in ("yes", "no"))
# A user other than root, for whom polkit is asked
USER = os.getuid() or NOBODY


@contextlib.contextmanager
def polkit(kind):
    """Yields a function that returns the questions that have been asked so far."""
    process = subprocess.Popen(["/usr/bin/python3", os.path.join(SRCDIR, "tests", "lib", "polkitd.py"),
                                daemons.address, kind], text=True, stdout=subprocess.PIPE)
    try:
        line = process.stdout.readline()
        if line != "ready\n":
            raise Skip("no python3-dbus or python3-gi here")
        os.set_blocking(process.stdout.fileno(), False)
        questions = []

        def asked():
            questions.extend(json.loads(line) for line in process.stdout)
            return questions
        yield asked
    finally:
        process.kill()
        process.wait()
        # Its name is free again.
        wait_for(lambda: daemons.busctl("status", "org.freedesktop.PolicyKit1", check=False).returncode != 0,
                 "polkit is gone")


def command(*options, call=(ROOT, MANAGER, "Reload")):
    return ["busctl", "--address=" + daemons.address, *options, "call", "org.vtld1", *call]


def as_user(line):
    more = {} if USER == os.getuid() else {"user": USER, "group": USER, "extra_groups": []}
    return subprocess.run(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, **more)


def reload_as_user(*options):
    return as_user(command(*options))


def detach_as_user(path):
    return as_user(command(call=(path, PARTITION, "Detach")))


def reloads():
    return daemons.count("RELOADING=1")


def refused(answer, text):
    assert answer.returncode != 0, "it must be refused"
    assert text in answer.stderr, answer.stderr


def denied(answer, why, action="org.vtld1.load-policy"):
    """busctl has its own words for this error; the log says why."""
    refused(answer, "Access denied")
    expected = "user %d may not %s: %s" % (USER, action, why)
    assert daemons.log().rstrip().split("\n")[-1].endswith(expected), daemons.log()


def test_root_needs_no_polkit():
    if os.getuid() != 0:
        raise Skip("needs root")
    before = reloads()
    with polkit("no") as asked:
        daemons.call(ROOT, MANAGER, "Reload")
        assert reloads() == before + 1 and asked() == []


def test_without_polkit_nobody_else_may():
    before = reloads()
    denied(reload_as_user(), "there is no polkit to ask")
    assert reloads() == before


def test_polkit_allows():
    before = reloads()
    with polkit("yes") as asked:
        answer = reload_as_user()
        assert answer.returncode == 0, answer.stderr
        question, = asked()
    assert reloads() == before + 1
    assert question["action"] == "org.vtld1.load-policy"
    assert question["kind"] == "system-bus-name" and re.fullmatch(r":[0-9.]+", question["name"])
    assert (question["details"], question["cancellation"]) == (0, "")


def test_polkit_refuses():
    before = reloads()
    with polkit("no") as asked:
        denied(reload_as_user(), "polkit refuses")
        assert len(asked()) == 1
    assert reloads() == before


def test_whether_a_person_may_be_asked_is_the_callers_word():
    with polkit("challenge") as asked:
        refused(reload_as_user("--allow-interactive-authorization=no"), "interactive")
        refused(reload_as_user("--allow-interactive-authorization=yes"), "interactive")
        assert [q["flags"] for q in asked()] == [0, 1]


def test_what_polkit_may_say_instead():
    before = reloads()
    with polkit("error"):
        denied(reload_as_user(), "the authority is out of order\\x07")
    with polkit("nonsense") as asked:
        denied(reload_as_user(), "polkit's answer is not understood")
        assert len(asked()) == 1
    assert reloads() == before


def test_a_polkit_that_does_not_answer_stops_nobody_else():
    if os.getuid() != 0:
        raise Skip("needs root and another user")
    before = reloads()
    callers = []
    try:
        with polkit("silence") as asked:
            for i in range(8):
                callers.append(subprocess.Popen(command(), user=USER, group=USER, extra_groups=[], text=True,
                                                stdout=subprocess.PIPE, stderr=subprocess.PIPE))
                wait_for(lambda: len(asked()) == i + 1, "polkit is asked")
            refused(reload_as_user(), "Too many requests")
            assert len(asked()) == 8
            # Root, and whoever only looks, do not wait.
            daemons.call(ROOT, MANAGER, "Reload")
            daemons.call(ROOT, MANAGER, "ListPartitions")
            assert reloads() == before + 1
        # polkit has gone without an answer.
        for caller in callers:
            _, error = caller.communicate(timeout=TIMEOUT)
            assert caller.returncode != 0 and error
        assert reloads() == before + 1
        daemons.nothing_leaked()
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()


def test_the_end_of_the_bus_forgets_the_questions():
    own = Daemons()
    process = subprocess.Popen(["/usr/bin/python3", os.path.join(SRCDIR, "tests", "lib", "polkitd.py"), own.address,
                                "silence"], text=True, stdout=subprocess.PIPE)
    caller = None
    try:
        if process.stdout.readline() != "ready\n":
            raise Skip("no python3-dbus or python3-gi here")
        more = {} if USER == os.getuid() else {"user": USER, "group": USER, "extra_groups": []}
        caller = subprocess.Popen(["busctl", "--address=" + own.address, "call", "org.vtld1", ROOT, MANAGER,
                                   "Reload"], stderr=subprocess.DEVNULL, **more)
        assert process.stdout.readline()
        own.dbus.kill()
        own.dbus.wait()
        assert caller.wait(TIMEOUT) != 0
        own.start_bus()
        wait_for(lambda: own.busctl("status", "org.vtld1", check=False).returncode == 0, "vtld is back on the bus")
        own.reload()
    finally:
        for p in process, caller:
            if p:
                p.kill()
                p.wait()
    own.stop()


def detached(monitor, vm, client, path, pid):
    assert client.closed() and link_hung_up(client.link), "its monitor is told"
    wait_for(lambda: process_ended(pid), "its worker ends")
    monitor.wait("InterfacesRemoved", ROOT, lambda data: data[0] == path)
    assert "VM %s: detached: asked for on the bus" % vm.uuid in daemons.log()
    assert not monitor.signals("WorkerFailed"), "that is no failure"


def test_detach():
    monitor = Monitor(daemons)
    with running_vm() as (vm, client, path, pid), running_vm() as (_, other, other_path, other_pid):
        denied(detach_as_user(path), "there is no polkit to ask", "org.vtld1.detach")
        with polkit("no"):
            denied(detach_as_user(path), "polkit refuses", "org.vtld1.detach")
        other.ok(PAUSE)
        client.ok(PAUSE)
        with polkit("yes") as asked:
            answer = detach_as_user(path)
            assert answer.returncode == 0, answer.stderr
            question, = asked()
            assert question["action"] == "org.vtld1.detach"
        detached(monitor, vm, client, path, pid)
        refused(detach_as_user(path), "Unknown object")
        assert daemons.get(other_path, PARTITION, "State") == "paused" and not process_ended(other_pid)
    daemons.nothing_leaked()
    monitor.stop()


def test_a_vm_that_goes_before_polkit_answers():
    if os.getuid() != 0:
        raise Skip("needs root and another user")
    with running_vm() as (vm, client, path, _):
        with polkit("silence") as asked:
            caller = subprocess.Popen(command(call=(path, PARTITION, "Detach")), user=USER, group=USER, extra_groups=[],
                                      text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            wait_for(lambda: len(asked()) == 1, "polkit is asked")
            daemons.call(path, PARTITION, "Detach")
            assert client.closed()
        _, error = caller.communicate(timeout=TIMEOUT)
        assert caller.returncode != 0 and error
    daemons.nothing_leaked()


def test_vtlctl_detach():
    monitor = Monitor(daemons)
    with running_vm(name="taken-away") as (vm, client, path, pid):
        line = [os.path.join(BUILDDIR, "vtlctl"), "--bus=" + daemons.address, "detach"]
        answer = subprocess.run([*line, "nobody"], text=True, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        assert answer.returncode == 1 and answer.stderr == "vtlctl: no VM is named \"nobody\"\n", answer
        answer = subprocess.run([*line, "taken"], text=True, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        assert answer.returncode == 0 and answer.stderr == "", answer
        detached(monitor, vm, client, path, pid)
    monitor.stop()


def test_what_reload_does():
    if os.getuid() != 0:
        raise Skip("needs root")
    daemons.write_policy(REFUSE)
    daemons.call(ROOT, MANAGER, "Reload")
    daemons.write_policy("[match broken]\nnonsense=1\n")
    text = error_of("call", "org.vtld1", ROOT, MANAGER, "Reload")
    assert "The policy stays as it was" in text and "policy.conf:2" in text, text
    with running_vm() as (_, _, path, _):
        assert daemons.get(path, PARTITION, "Vtl1Allowed") is False
    daemons.write_policy(ALLOW)
    daemons.call(ROOT, MANAGER, "Reload")
    with running_vm() as (_, _, path, _):
        assert daemons.get(path, PARTITION, "Vtl1Allowed") is True


def test_every_action_is_described():
    with open(os.path.join(SRCDIR, "daemon", "polkit.c")) as f:
        asked = re.findall(r'= "(org\.vtld1\.[a-z-]+)",', f.read())
    with open(os.path.join(SRCDIR, "data", "org.vtld1.policy")) as f:
        text = f.read()
    described = re.findall(r'<action id="([^"]+)">', text)
    # Whoever asks about others must be root, or own the action.
    assert text.count('<annotate key="org.freedesktop.policykit.owner">unix-user:vtld</annotate>') == len(described)
    assert sorted(asked) == sorted(described) == ["org.vtld1." + a for a in ("detach", "inspect", "load-policy")]


run(globals())
