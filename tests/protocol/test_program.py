#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtld as a program: options, exit statuses, sockets, signals, --probe."""

from common import *

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE = 64, 65, 66, 69


def vtld(*options, **more):
    return subprocess.run([program("vtld"), *options], text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def test_help_and_version():
    answer = vtld("--help")
    assert answer.returncode == 0 and answer.stdout.startswith("Usage: vtld")
    for option in "socket-path", "fd", "bus", "policy", "max-vms", "log-level", "probe", "version", "help":
        assert "--" + option in answer.stdout
    answer = vtld("--version")
    assert answer.returncode == 0 and answer.stdout.startswith("vtld ")


def test_bad_options():
    for options in (["--nonsense"], ["--fd=99"], ["--fd=x"], ["--fd="], ["--max-vms=0"], ["--max-vms=-1"],
                    ["--max-vms=4097"], ["--log-level=loud"], ["argument"], ["--socket-path"], ["--worker=99"],
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


def test_a_socket_of_the_service_manager():
    own = Daemons()
    own.vtld.terminate()
    own.vtld.wait(TIMEOUT)
    path = own.directory + "/activated.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    os.set_inheritable(listener.fileno(), True)
    # LISTEN_PID must be the process itself: a shell puts it in and becomes vtld.
    script = 'exec 3<&%d; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"' % listener.fileno()
    process = subprocess.Popen(["bash", "-c", script, "bash", program("vtld"), "--bus=" + own.address,
                                "--policy=" + own.policy_path], close_fds=False, stderr=subprocess.DEVNULL)
    with Client(path) as c:
        c.version()
    process.terminate()
    assert process.wait(TIMEOUT) == 0
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
