#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtld as a program: options, exit statuses, sockets, signals, --probe."""

import contextlib

from common import *

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_CONFIG = 64, 65, 66, 69, 78


def vtld(*options, **more):
    return subprocess.run([program("vtld"), *options], text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def test_help_and_version():
    answer = vtld("--help")
    assert answer.returncode == 0 and answer.stdout.startswith("Usage: vtld")
    for option in ("socket-path", "fd", "bus", "policy", "libvirt-uri", "max-vms", "exit-idle-time", "log-level", "probe",
                   "version", "help"):
        assert "--" + option in answer.stdout
    answer = vtld("--version")
    assert answer.returncode == 0 and answer.stdout.startswith("vtld ")


def test_bad_options():
    for options in (["--nonsense"], ["--fd=99"], ["--fd=x"], ["--fd="], ["--max-vms=0"], ["--max-vms=-1"],
                    ["--max-vms=4097"], ["--exit-idle-time=x"], ["--exit-idle-time=86401"], ["--log-level=loud"], ["argument"], ["--socket-path"], ["--worker=99"],
                    ["--socket-path=/x", "--fd=0"]):
        answer = vtld(*options)
        assert answer.returncode == EX_USAGE, (options, answer)
        assert answer.stderr.strip(), options


def test_a_bad_policy():
    path = os.path.join(daemons.directory, "bad.conf")
    with open(path, "w") as f:
        f.write("[match a]\nname=*\n")
    answer = vtld("--socket-path=" + path + ".sock", "--bus=" + daemons.address, "--policy=" + path)
    assert answer.returncode == EX_DATAERR, answer
    assert path + ":1: [match a] has no allow-vtl1=" in answer.stderr


def test_a_policy_file_that_was_asked_for_and_is_not_there():
    answer = vtld("--socket-path=" + daemons.directory + "/n.sock", "--bus=" + daemons.address, "--policy=/nowhere")
    assert answer.returncode == EX_NOINPUT, answer
    assert "/nowhere" in answer.stderr


def test_no_bus():
    answer = vtld("--socket-path=" + daemons.directory + "/n.sock", "--bus=unix:path=/nowhere",
                  "--policy=" + daemons.policy_path)
    assert answer.returncode == EX_UNAVAILABLE, answer
    assert "cannot connect to the bus" in answer.stderr
    assert not os.path.exists(daemons.directory + "/n.sock"), "the socket is removed again"


def test_a_name_that_somebody_owns():
    answer = vtld("--socket-path=" + daemons.directory + "/n.sock", "--bus=" + daemons.address,
                  "--policy=" + daemons.policy_path)
    assert answer.returncode == EX_UNAVAILABLE, answer
    assert "cannot own the name org.vtld1" in answer.stderr


def test_a_socket_that_somebody_listens_on():
    answer = vtld("--socket-path=" + daemons.socket_path, "--bus=" + daemons.address,
                  "--policy=" + daemons.policy_path)
    assert answer.returncode == EX_UNAVAILABLE, answer
    assert "cannot listen" in answer.stderr
    with daemons.client() as c:
        c.version()


def test_a_stale_socket_is_replaced_and_a_file_is_not():
    own = Daemons()
    own.vtld.kill()
    own.vtld.wait()
    assert os.path.exists(own.socket_path)
    own.start_vtld(("--policy=" + own.policy_path,))
    with own.client() as c:
        c.version()
    own.vtld.terminate()
    assert own.vtld.wait(TIMEOUT) == 0
    assert not os.path.exists(own.socket_path), "the socket is removed at the end"
    with open(own.socket_path, "w") as f:
        f.write("precious")
    answer = vtld("--socket-path=" + own.socket_path, "--bus=" + own.address, "--policy=" + own.policy_path)
    assert answer.returncode == EX_UNAVAILABLE, answer
    with open(own.socket_path) as f:
        assert f.read() == "precious"
    own.stop()


def test_an_inherited_socket():
    own = Daemons()
    own.vtld.terminate()
    own.vtld.wait(TIMEOUT)
    path = own.directory + "/inherited.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    process = subprocess.Popen([program("vtld"), "--fd=%d" % listener.fileno(), "--bus=" + own.address,
                                "--policy=" + own.policy_path], pass_fds=[listener.fileno()],
                               stderr=subprocess.DEVNULL)
    with Client(path) as c:
        c.version()
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    assert os.path.exists(path), "a socket that vtld has not made stays"
    listener.close()
    own.stop()


def activated(own, listeners, names, *options, **more):
    """vtld with sockets as the service manager passes them. LISTEN_PID must be the process itself: a shell puts
    it in and becomes vtld."""
    keep = [os.dup(s.fileno()) for s in listeners]
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in keep]
    script = "".join("exec %d<&%d %d<&-; " % (3 + i, fd, fd) for i, fd in enumerate(moved))
    script += 'LISTEN_PID=$$ LISTEN_FDS=%d %s exec "$@"' % (len(moved), "LISTEN_FDNAMES=" + names if names else "")
    process = subprocess.Popen(["bash", "-c", script, "bash", program("vtld"), "--bus=" + own.address,
                                "--policy=" + own.policy_path, *options], pass_fds=moved, text=True,
                               stderr=subprocess.PIPE, **more)
    for fd in keep + moved:
        os.close(fd)
    return process


def a_listener(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    return listener


def without_vtld():
    """A bus, and vtld's name free on it"""
    own = Daemons()
    own.vtld.terminate()
    own.vtld.wait(TIMEOUT)
    return own


def test_a_socket_of_the_service_manager():
    own = without_vtld()
    path = own.directory + "/activated.sock"
    listener = a_listener(path)
    for names in "", "attach", "vtld.socket":
        process = activated(own, [listener], names)
        with Client(path) as c:
            c.version()
        process.terminate()
        _, log = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0 and "closing descriptor" not in log, log
        assert os.path.exists(path), "the socket stays"
    listener.close()
    own.stop()


def open_files(pid):
    """What a process has open, but for what it closes meanwhile: a connection that has ended"""
    fds = "/proc/%d/fd" % pid
    files = set()
    for fd in os.listdir(fds):
        with contextlib.suppress(FileNotFoundError):
            files.add(os.readlink(os.path.join(fds, fd)))
    return files


def listens(path):
    """Whether somebody does: a socket is there before it listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        return s.connect_ex(path) == 0


def test_descriptors_of_the_service_manager_by_name():
    own = without_vtld()
    path, other_path = own.directory + "/activated.sock", own.directory + "/other.sock"
    listener, other = a_listener(path), a_listener(other_path)
    process = activated(own, [other, listener], "other:attach")
    with Client(path) as c:
        c.version()
    sockets = open_files(process.pid)
    assert os.readlink("/proc/self/fd/%d" % listener.fileno()) in sockets
    assert os.readlink("/proc/self/fd/%d" % other.fileno()) not in sockets, "what it does not know it closes"
    process.terminate()
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0 and 'closing descriptor "other"' in log, log

    process = activated(own, [listener, other], "attach:attach")
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == EX_CONFIG and "more than one attach socket" in log, log

    # Only descriptors of other names: a socket of its own
    process = activated(own, [other], "other", "--socket-path=" + own.directory + "/own.sock")
    wait_for(lambda: listens(own.directory + "/own.sock"), "its own socket")
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    process.stderr.close()

    # An option says more than the unit.
    process = activated(own, [listener], "attach", "--socket-path=" + own.directory + "/own.sock")
    wait_for(lambda: listens(own.directory + "/own.sock"), "its own socket")
    with Client(own.directory + "/own.sock") as c:
        c.version()
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    process.stderr.close()
    listener.close()
    other.close()
    own.stop()


def test_an_end_without_use():
    own = without_vtld()
    path = own.directory + "/activated.sock"
    listener = a_listener(path)
    process = activated(own, [listener], "attach", "--exit-idle-time=2")
    wait_for(lambda: own.busctl("status", "org.vtld1", check=False).returncode == 0, "vtld is on the bus")
    # Calls, and then a connection, are use.
    begin = time.monotonic()
    while time.monotonic() - begin < 3:
        own.get("/org/vtld1", "org.vtld1.Manager", "Version")
        time.sleep(0.2)
    with Client(path) as c:
        c.version()
        time.sleep(4)
        assert process.poll() is None, "somebody is connected"
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, log
    assert own.busctl("status", "org.vtld1", check=False).returncode != 0

    # Whoever connects now waits for the next one.
    with Client(path) as c:
        process = activated(own, [listener], "attach", "--exit-idle-time=2")
        c.version()
    assert process.wait(TIMEOUT) == 0
    process.stderr.close()
    listener.close()
    own.stop()


def test_what_is_no_listening_socket():
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.bind(daemons.directory + "/stream.sock")
    stream.listen()
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for fd in stream.fileno(), pair[0].fileno(), memfd(4096):
        answer = vtld("--fd=%d" % fd, "--bus=" + daemons.address, "--policy=" + daemons.policy_path, pass_fds=[fd])
        assert answer.returncode == EX_UNAVAILABLE, answer
        assert "listening SEQPACKET socket" in answer.stderr
    stream.close()
    for s in pair:
        s.close()


def test_signals_end_it_cleanly():
    for number in signal.SIGTERM, signal.SIGINT:
        own = Daemons()
        own.vtld.send_signal(number)
        assert own.vtld.wait(TIMEOUT) == 0
        own.await_notification("STOPPING=1")
        own.stop()


def test_without_a_policy_file_everything_is_allowed():
    own = Daemons()
    own.vtld.terminate()
    own.vtld.wait(TIMEOUT)
    missing = "/etc/vtld/policy.conf"
    if os.path.exists(missing):
        raise Skip("this machine has a " + missing)
    own.start_vtld(())
    if "there is no policy file" not in own.log():
        raise Skip("built for another sysconfdir, which has a policy")
    vm = Vm()
    with own.client() as c:
        assert c.bring_up(vm)[0] == 1
        properties = own.get_all(own.partition_path(vm.uuid), "org.vtld1.Partition")
        assert (properties["PolicyName"], properties["Vtl1Allowed"]) == ("none", True)
    vm.close()
    own.stop()


def test_probe():
    answer = vtld("--probe")
    report = json.loads(answer.stdout)
    assert answer.returncode == (0 if report["can-serve"] else 1)
    assert report["can-serve"] == (not report["reasons"])
    assert report["fault-precision"] in ("precise", "imprecise", "unknown")
    assert report["execute-enforcement"] == report["dma-enforcement"] == report["startup-denial"] == "none"
    assert report["kvm"]["device"] == "/dev/kvm"
    if report["kvm"]["usable"]:
        assert report["backend"] == "stock"
        assert report["kvm"]["api-version"] == 12
        assert set(report["forbidden-access"]) == {"store", "load", "emulated-load"}
        assert "not-reported" not in report["forbidden-access"].values()
        assert report["kvm"]["capabilities"]["user-memory"] is True


def test_probe_without_kvm():
    # A root that has no /dev/kvm: a user namespace is not needed when we are root.
    if os.getuid() != 0 or not shutil.which("unshare"):
        raise Skip("needs root and unshare(1)")
    answer = subprocess.run(["unshare", "--mount", "sh", "-c",
                             'mount -t tmpfs none /dev && : >/dev/null && exec "$1" --probe', "sh", program("vtld")],
                            text=True, timeout=TIMEOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if not answer.stdout:
        raise Skip("cannot hide /dev: " + answer.stderr.strip())
    report = json.loads(answer.stdout)
    assert answer.returncode == 1 and report["can-serve"] is False
    assert report["kvm"]["usable"] is False and report["backend"] is None
    assert any("/dev/kvm cannot be opened" in reason for reason in report["reasons"])


run(globals())
