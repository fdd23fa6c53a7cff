#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtlrun as its user sees it: options, statuses, console, signals. Guests are a few bytes each."""

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

SRCDIR = os.environ.get("srcdir", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path.insert(0, os.path.join(SRCDIR, "tests/lib"))
sys.dont_write_bytecode = True

import tap  # noqa: E402

VTLRUN = os.path.join(os.environ.get("builddir", "."), "vtlrun")
LOAD = 0x200000
LIMIT = 60  # seconds; a test that waits longer has failed

# 32-bit protected mode; EBX is the multiboot information.
EXIT_0X21 = "b021 e6f4 f4"
HANG = "ebfe"
HALT = "f4 ebfd"
RESET_KEYBOARD = "b0fe e664 f4"
RESET_PCI = "66baf90c b006 ee f4"
PRINT_FOR_EVER = "66baf803 b078 ee ebfd"
# Writes the number of processors, from fw_cfg, to the exit port.
COUNT_PROCESSORS = "66ba1005 66b80500 66ef 42 ec e6f4 f4"
# Prints the command line, exits with 1.
PRINT_COMMAND_LINE = "8b7310 66baf803 ac 84c0 7403 ee ebf8 b001 e6f4 f4"
# Prints the first module, exits with 2.
PRINT_MODULE = "8b7318 8b4e04 8b36 29f1 66baf803 f36e b002 e6f4 f4"
# Polls for input and prints it until 'q', then exits with 3.
ECHO = "66bafd03 ec a801 74fb 66baf803 ec ee 3c71 75ed b003 e6f4 f4"
# Puts "mov $5, %al; out %al, $0xf4" at 0x8000, sends INIT and SIPI to all others, halts.
START_OTHERS = ("c70500800000 b005e6f4 c7050003e0fe 00450c00 c7050003e0fe 08460c00" + HALT)
# Reads a physical address where nothing is and leaves with its first byte as status.
READ_NOTHING = "a1000000f0 e6f4 f4"

scratch = tempfile.TemporaryDirectory(prefix="vtlrun-test-")


def image(code):
    """A multiboot image with address fields, loaded at LOAD, entered behind its header."""
    flags = 1 << 16 | 3
    magic = 0x1BADB002
    data = struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, LOAD, LOAD, 0, 0,
                       LOAD + 32) + bytes.fromhex(code)
    path = os.path.join(scratch.name, "%08x.img" % (hash(code) & 0xFFFFFFFF))
    with open(path, "wb") as f:
        f.write(data)
    return path


KVM_GET_API_VERSION = 0xAE00


def need_kvm():
    try:
        with open("/dev/kvm", "r+b", buffering=0) as kvm:
            fcntl.ioctl(kvm, KVM_GET_API_VERSION, 0)
    except OSError as e:
        raise tap.Skip("no usable /dev/kvm: " + e.strerror)


def run(*arguments, stdin=b"", **kwargs):
    return subprocess.run([VTLRUN, *arguments], input=stdin, capture_output=True, timeout=LIMIT,
                          check=False, **kwargs)


def expect(result, status, errors=None, output=None):
    text = result.stderr.decode(errors="replace")
    assert result.returncode == status, "status %d, expected %d; it said: %s" % (
        result.returncode, status, text)
    if errors is not None:
        assert errors in text, "no '%s' in: %s" % (errors, text)
    if output is not None:
        assert result.stdout == output, result.stdout


def engines():
    """Everything that the guest can see of the machine is the same with and without trust levels."""
    return ["--plain"], ["--engine=in-process"]


def test_bad_options():
    for arguments, words in [
            ([], "which image"),
            (["a", "b"], "only one image"),
            (["--vcpus", "0", "a"], "--vcpus: '0'"),
            (["--vcpus", "65", "a"], "1 to 64"),
            (["--restore", "a", "b"], "takes no image"),
            (["--restore", "a", "--append", "b"], "takes no image"),
            (["--xcr0", "0", "a"], "--xcr0: '0'"),
            (["--xcr0", "6", "a"], "odd"),
            (["--xcr0=7x", "a"], "'7x'"),
            (["--xcr0", "4294967297", "a"], "--xcr0"),
            (["--vcpus", "-1", "a"], "'-1'"),
            (["--vcpus", "18446744073709551617", "a"], "--vcpus"),
            (["--memory", "1", "a"], "--memory"),
            (["--memory", "12M", "a"], "'12M'"),
            (["--timeout", "0", "a"], "--timeout"),
            (["--engine=magic", "a"], "daemon or in-process"),
            (["--uuid", "1234", "a"], "not a UUID"),
            (["--uuid", "12345678-1234-1234-1234-12345678901g", "a"], "not a UUID"),
            (["--name", "", "a"], "--name"),
            (["--frobnicate", "a"], "frobnicate"),
            (["--append"], "append")]:
        expect(run(*arguments), 64, words, b"")


def test_no_saved_machine():
    expect(run("--restore", "/nonexistent"), 66, "No such file")
    expect(run("--restore", "/dev/null"), 65, "not a saved machine")
    expect(run("--restore", __file__), 65, "not a saved machine")


def test_help_and_version():
    result = run("--help")
    expect(result, 0, "")
    lines = result.stdout.decode().splitlines()
    assert lines[0].startswith("Usage: vtlrun"), lines[0]
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    result = run("--version")
    expect(result, 0, "")
    assert result.stdout.startswith(b"vtlrun (vtld) "), result.stdout


def test_files_that_cannot_be_used():
    need_kvm()
    text = os.path.join(scratch.name, "text")
    with open(text, "w", encoding="ascii") as f:
        f.write("This is no kernel.\n" * 1000)
    expect(run("--plain", "/nonexistent/kernel"), 66, "No such file")
    expect(run("--plain", scratch.name), 66, "not a regular file")
    expect(run("--plain", "--initrd", "/nonexistent", image(EXIT_0X21)), 66, "/nonexistent")
    expect(run("--plain", text), 65, "neither a multiboot header")
    expect(run("--plain", "/dev/null"), 66, "not a regular file")


def test_exit_port():
    need_kvm()
    for engine in engines():
        expect(run(*engine, image(EXIT_0X21)), 0x43, "", b"")


def test_command_line_and_module():
    need_kvm()
    kernel = image(PRINT_COMMAND_LINE)
    expect(run("--plain", "--append", "one two=3", kernel), 3, "",
           kernel.encode() + b" one two=3")
    expect(run("--plain", kernel), 3, "", kernel.encode())
    module = os.path.join(scratch.name, "module")
    with open(module, "wb") as f:
        f.write(b"bytes of the module")
    expect(run("--plain", "--initrd", module, image(PRINT_MODULE)), 5, "", b"bytes of the module")


def test_processors():
    need_kvm()
    for engine in engines():
        expect(run(*engine, "--vcpus", "7", image(COUNT_PROCESSORS)), 15, "")
        expect(run(*engine, "--vcpus", "4", "--timeout", "30", image(START_OTHERS)), 11, "")
    expect(run("--plain", "--vcpus", "64", image(COUNT_PROCESSORS)), 129, "")


def test_memory_where_there_is_none():
    need_kvm()
    expect(run("--plain", "--memory", "3072", image(READ_NOTHING)), 255, "")
    expect(run("--plain", "--memory", "6144", image(EXIT_0X21)), 0x43, "")
    expect(run("--plain", "--memory", "2", image(EXIT_0X21)), 65, "outside RAM")


def test_input_from_a_pipe():
    need_kvm()
    text = bytes(range(32, 112)) * 3 + b"q"  # more than the FIFO holds
    for engine in engines():
        expect(run(*engine, "--timeout", "30", image(ECHO), stdin=text), 7, "", text)
    result = subprocess.run([VTLRUN, "--plain", image(EXIT_0X21)], stdin=None, close_fds=True,
                            preexec_fn=lambda: os.close(0), timeout=LIMIT, check=False)
    assert result.returncode == 0x43, result.returncode


def test_reset():
    need_kvm()
    for code in (RESET_KEYBOARD, RESET_PCI):
        expect(run("--plain", image(code)), 2, "the guest reset its machine")


def test_timeout():
    need_kvm()
    for engine in engines():
        for code in (HANG, HALT):
            began = time.monotonic()
            expect(run(*engine, "--timeout", "1", image(code)), 124, "timeout after 1 seconds")
            assert 0.9 < time.monotonic() - began < 30


def end_by(sig, *arguments):
    with subprocess.Popen([VTLRUN, *arguments], stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE) as p:
        time.sleep(0.5)
        p.send_signal(sig)
        _, errors = p.communicate(timeout=LIMIT)
    return p.returncode, errors.decode()


def test_signals():
    need_kvm()
    for engine in engines():
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            status, errors = end_by(sig, *engine, "--vcpus", "3", image(HALT))
            assert status == 128 + sig, status
            assert "ended by signal %d" % sig in errors, errors


def test_nobody_reads_the_output():
    need_kvm()
    reading, writing = os.pipe()
    with subprocess.Popen([VTLRUN, "--plain", image(PRINT_FOR_EVER)], stdin=subprocess.DEVNULL,
                          stdout=writing, stderr=subprocess.DEVNULL) as p:
        until = time.monotonic() + LIMIT
        while select.select([], [writing], [], 0)[1]:
            assert time.monotonic() < until, "the pipe is not full"
            time.sleep(0.02)
        p.terminate()
        assert p.wait(timeout=LIMIT) == 128 + signal.SIGTERM
    os.close(writing)
    os.close(reading)

    # The reader is gone: the guest goes on.
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run([VTLRUN, "--plain", "--append", "x" * 1000, image(PRINT_COMMAND_LINE)],
                            stdin=subprocess.DEVNULL, stdout=writing, timeout=LIMIT, check=False)
    os.close(writing)
    assert result.returncode == 3, result.returncode


class Terminal:
    """vtlrun in the foreground of a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(VTLRUN, [VTLRUN, *arguments])
        self.output = b""

    def type(self, data):
        os.write(self.fd, data)

    def wait_for(self, what):
        until = time.monotonic() + LIMIT
        while what not in self.output:
            ready, _, _ = select.select([self.fd], [], [], max(0, until - time.monotonic()))
            assert ready, "no %r in %r" % (what, self.output)
            try:
                self.output += os.read(self.fd, 4096)
            except OSError as e:
                assert e.errno == errno.EIO and what in self.output, self.output

    def modes(self):
        return termios.tcgetattr(self.fd)[3]

    def status(self):
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def test_terminal():
    need_kvm()
    t = Terminal("--plain", image(ECHO))
    before = t.modes()
    t.type(b"a")
    t.wait_for(b"a")
    until = time.monotonic() + LIMIT
    while t.modes() & (termios.ECHO | termios.ICANON | termios.ISIG):
        assert time.monotonic() < until, "the terminal is not in raw mode"
        time.sleep(0.02)
    # The interrupt key and the escape key typed twice go to the guest, other keys after it nowhere.
    t.type(b"<\x03\x01\x01\x01z>")
    t.wait_for(b"<\x03\x01>")
    t.type(b"\x01x")
    assert t.status() == 0
    assert t.modes() == before
    os.close(t.fd)


def test_terminal_restored_after_a_signal():
    need_kvm()
    t = Terminal("--plain", image("b02a 66baf803 ee" + HALT))
    before = t.modes()
    t.wait_for(b"*")
    assert not t.modes() & termios.ICANON
    os.kill(t.pid, signal.SIGTERM)
    assert t.status() == 128 + signal.SIGTERM
    assert t.modes() == before
    os.close(t.fd)


def test_no_daemon():
    need_kvm()
    socket = os.path.join(scratch.name, "nobody")
    expect(run("--attach", socket, image(EXIT_0X21)), 69, socket, b"")


if __name__ == "__main__":
    if not os.path.exists(VTLRUN):
        tap.skip_all("vtlrun is not built")
    tap.main(globals(), scratch.cleanup)
