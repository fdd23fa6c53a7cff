# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the emulated machines of the tests have in common: emulated-host and tests/system/debian-host.

A machine is QEMU with a virtio port, on which what runs inside sends the output of its command, and
between it messages that start with a zero byte and a secret word; tests/host/init tells which.
"""

import argparse
import ctypes
import io
import os
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

STATUS_TIMEOUT = 124
STATUS_HOST_FAILED = 125
LOG_TAIL_LINES = 40
MAX_DRIFT = 30    # seconds, and a quarter of the time
CLOCK_BOOTS = 3   # that may have a clock that is wrong
MAX_SILENCE = 60  # seconds
MAX_HEADER = 4096
PR_SET_PDEATHSIG = 1

NAME = os.path.basename(sys.argv[0])
QEMU = "qemu-system-x86_64"


class HostError(Exception):
    """The emulated host could not run the command."""


class ClockError(HostError):
    """Its clock is wrong from the beginning; the command has not been started."""


class Parser(argparse.ArgumentParser):
    """Its usual status 2 could be the command's own."""

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(STATUS_HOST_FAILED, f"{self.prog}: {message}\n")


def parser_of(**more):
    """The options that every machine has."""
    parser = Parser(usage="%(prog)s [OPTION]... -- COMMAND [ARGUMENT]...", **more)
    parser.add_argument("--file", action="append", default=[], metavar="SRC[=DEST]", dest="files",
                        help="put the file or directory SRC at DEST; without DEST at the same path "
                             "(a relative SRC below /)")
    parser.add_argument("--out", metavar="DIR",
                        help="copy what COMMAND leaves in /out into DIR")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]",
                        help="set a variable for COMMAND, or pass it on as it is here")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS",
                        help="end COMMAND after that long, with status 124 (default %(default)s)")
    parser.add_argument("--boot-timeout", type=float, default=120, metavar="SECONDS",
                        help="how long the host may take to boot (default %(default)s)")
    parser.add_argument("--smp", type=int, default=1, metavar="N",
                        help="processors of the host (default %(default)s)")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB",
                        help="memory of the host (default %(default)s)")
    parser.add_argument("--tries", type=int, default=1, metavar="N",
                        help="start again, N times in all, when the host itself fails; COMMAND's "
                             "output is held back until then (default 1)")
    parser.add_argument("--append", default="", metavar="TEXT",
                        help="add to the host kernel's command line")
    parser.add_argument("--kernel-log", metavar="FILE",
                        help="keep the host's kernel log in FILE")
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="say on standard error how long each step took")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def payload_destination(source):
    """Where a file goes whose place is not given: to the same path, below / when relative."""
    path = os.path.normpath(source)
    if os.path.isabs(path) or path.startswith(".."):
        return os.path.abspath(path)
    return "/" + path


def payload_arguments(files):
    for text in files:
        source, equals, dest = text.partition("=")
        if not os.path.exists(source):
            raise HostError(f"--file {source}: no such file")
        if equals and not dest.startswith("/"):
            raise HostError(f"--file {text}: {dest!r} is not an absolute path")
        yield f"{source}={dest or payload_destination(source)}"


def command_script(args):
    """The shell script that the host's init runs."""
    lines = ["cd /"]
    for text in args.env:
        name, equals, value = text.partition("=")
        if not equals:
            value = os.environ.get(name)
        if value is not None:
            lines.append(f"export {name}={shlex.quote(value)}")
    lines.append("exec " + " ".join(shlex.quote(word) for word in args.command))
    return "\n".join(lines) + "\n"


def cached(*names):
    """What build-aux/setup.sh has unpacked"""
    cache = os.environ.get("VTLD_CACHE") or os.path.expanduser("~/.cache/vtld")
    return os.path.join(cache, *names)


def find_qemu():
    """The newer one that setup.sh has fetched, or the machine's; the beginning of its command line"""
    folder = cached("qemu", "current")
    if os.path.exists(os.path.join(folder, QEMU)):
        return [os.path.join(folder, QEMU), "-L", folder]
    if shutil.which(QEMU) is None:
        raise HostError(f"no {QEMU}: run build-aux/setup.sh")
    return [QEMU]


def qemu_command(args, log, word, port_fd, append, *devices):
    """QEMU with the port, the log, and what one machine has beside them."""
    append = ["console=ttyS0", "panic=-1", "oops=panic", "tsc=reliable", "no_timer_check",
              "mitigations=off", "random.trust_cpu=on", "cryptomgr.notests", *append,
              f"vtldhost={word}", args.append]
    return [
        *find_qemu(), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        # One thread for all CPUs: with several, nested guests have been seen to lose interrupts.
        "-accel", "tcg,thread=single", "-cpu", "max,+svm,-la57",
        "-smp", str(args.smp), "-m", str(args.memory), *devices,
        "-append", " ".join(append).strip(),
        "-chardev", f"file,id=log,path={log}", "-serial", "chardev:log",
        "-chardev", f"socket,id=port,fd={port_fd}",
        "-device", "virtio-serial-pci,max_ports=2",
        "-device", "virtserialport,chardev=port,name=vtld.host,nr=1",
    ]


def die_with_parent():
    """QEMU must not outlive us, however we end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Stream:
    """Takes apart what init sends: output, and messages that start with NUL and the secret word."""

    def __init__(self, word, output, archive):
        self.mark = b"\0" + word.encode() + b" "
        self.output = output
        self.archive = archive
        self.buffer = b""
        self.archive_left = 0
        self.ready = False
        self.first_beat = self.last_beat = None
        self.first_clock = None
        self.status = None
        self.failure = None

    def feed(self, data):
        self.buffer += data
        while self.step():
            pass
        self.output.flush()

    def step(self):
        """Uses up some of the buffer, and says whether there may be more to use up."""
        if self.archive_left:
            part = self.buffer[:self.archive_left]
            self.archive.write(part)
            self.archive_left -= len(part)
            self.buffer = self.buffer[len(part):]
            return bool(part)

        start = self.buffer.find(self.mark)
        if start < 0:
            # The end of the buffer may be the beginning of a mark.
            keep = next((n for n in range(min(len(self.mark) - 1, len(self.buffer)), 0, -1)
                         if self.mark.startswith(self.buffer[-n:])), 0)
            self.emit(len(self.buffer) - keep)
            return False
        self.emit(start)

        end = self.buffer.find(b"\n")
        if end < 0:
            if len(self.buffer) > MAX_HEADER:
                raise HostError("the host's init sends nonsense")
            return False
        header = self.buffer[len(self.mark):end].decode(errors="replace")
        self.buffer = self.buffer[end + 1:]
        self.message(header)
        return True

    def emit(self, count):
        # Before the host is ready there is nothing that the command could have said.
        if self.ready:
            self.output.write(self.buffer[:count])
        self.buffer = self.buffer[count:]

    def beat(self, seconds):
        """The emulated clock has been seen to run wild, which ends every timeout inside."""
        now = time.monotonic()
        if self.first_beat is None:
            self.first_beat = (now, seconds)
        passed, counted = now - self.first_beat[0], seconds - self.first_beat[1]
        if abs(counted - passed) > MAX_DRIFT + passed / 4:
            raise HostError(f"the host's clock went {counted} s in {passed:.0f} s")
        self.last_beat = now

    def clock(self, seconds):
        """Twice before the host is ready: a kernel that is interrupted while it measures how fast
        its clocks are has had a second of eight."""
        now = time.monotonic()
        if self.first_clock is None:
            self.first_clock = (now, seconds)
            return
        passed, counted = now - self.first_clock[0], seconds - self.first_clock[1]
        if not passed / 2 < counted < passed * 1.5:
            raise ClockError(f"the host's clock went {counted:.2f} s in {passed:.2f} s")

    def message(self, header):
        name, _, rest = header.partition(" ")
        if name == "ready":
            self.ready = True
        elif name == "failed":
            self.failure = rest
        elif name == "clock":
            self.clock(float(rest))
        elif name == "alive":
            self.beat(int(rest))
        elif name == "out":
            self.archive_left = int(rest)
        elif name == "end":
            self.status = int(rest)


def log_tail(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = f.read().replace("\r", "").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_TAIL_LINES:])


def how_busy(pid):
    """What a machine that says nothing does: spins or sleeps. A hint for who looks for the reason."""
    def ticks():
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(2)
    share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / 2
    return f"QEMU used {100 * share:.0f} % of a CPU"


def serve(args, stream, port, started, pid):
    """Reads from the port until the command has ended, the host has, or the time is over."""
    deadline = started + args.boot_timeout
    ready = False

    while stream.status is None and stream.failure is None:
        if stream.ready and not ready:
            ready = True
            deadline = time.monotonic() + args.timeout
            if args.verbose:
                print(f"{NAME}: up after {time.monotonic() - started:.1f} s",
                      file=sys.stderr)

        left = deadline - time.monotonic()
        if ready and stream.last_beat and time.monotonic() - stream.last_beat > MAX_SILENCE:
            raise HostError(f"the host has been silent for {MAX_SILENCE} s; {how_busy(pid)}")
        if left <= 0:
            if ready:
                return STATUS_TIMEOUT
            raise HostError(f"the host did not boot within {args.boot_timeout:g} s")

        if not select.select([port], [], [], min(left, 5))[0]:
            continue
        try:
            data = port.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise HostError("the host broke down while the command ran" if ready
                            else "the host did not boot")
        stream.feed(data)

    if stream.failure is not None:
        raise HostError(stream.failure)
    return stream.status


def run(args, prepare, scratch, output):
    """One boot. @prepare(args, scratch) makes the files, and returns what makes QEMU's command
    line of (log, word, port_fd)."""
    started = time.monotonic()
    command_line = prepare(args, scratch)
    if args.verbose:
        print(f"{NAME}: ready to boot after {time.monotonic() - started:.1f} s", file=sys.stderr)

    log = os.path.join(scratch, "kernel.log")
    archive_path = os.path.join(scratch, "out.tar")
    word = secrets.token_hex(16)
    ours, theirs = socket.socketpair()
    with ours, open(archive_path, "wb") as archive:
        with theirs:
            qemu = subprocess.Popen(
                command_line(log, word, theirs.fileno()),
                stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], preexec_fn=die_with_parent)
        try:
            stream = Stream(word, output, archive)
            status = serve(args, stream, ours, time.monotonic(), qemu.pid)
        except HostError:
            # A moment for the last lines of the log.
            try:
                qemu.wait(timeout=2)
            except subprocess.TimeoutExpired:
                pass
            print(log_tail(log), file=sys.stderr)
            raise
        finally:
            qemu.kill()
            qemu.wait()
            if args.kernel_log and os.path.exists(log):
                shutil.copyfile(log, args.kernel_log)

    if status == STATUS_TIMEOUT and stream.status is None:
        print(f"{NAME}: the command did not end within {args.timeout:g} s", file=sys.stderr)
    elif args.out:
        os.makedirs(args.out, exist_ok=True)
        with tarfile.open(archive_path) as tar:
            tar.extractall(args.out)
    if args.verbose:
        print(f"{NAME}: over after {time.monotonic() - started:.1f} s", file=sys.stderr)
    return status


def main(args, prepare):
    # As an exception, so that QEMU is ended and the files are removed on the way out.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    clocks = CLOCK_BOOTS - 1
    left = args.tries - 1
    while True:
        # QEMU's emulation has been seen to hang and its clock to jump, once in some hundred boots:
        # what ran in such a host says nothing.
        output = io.BytesIO() if args.tries > 1 else sys.stdout.buffer
        with tempfile.TemporaryDirectory(prefix=NAME + ".") as scratch:
            try:
                status = run(args, prepare, scratch, output)
            except ClockError as error:
                print(f"{NAME}: {error}" + ("; once more" if clocks else ""), file=sys.stderr)
                status = STATUS_HOST_FAILED
                clocks -= 1
                if clocks >= 0:
                    continue
            except (HostError, OSError) as error:
                print(f"{NAME}: {error}" + ("; once more" if left else ""), file=sys.stderr)
                status = STATUS_HOST_FAILED
            except KeyboardInterrupt:
                return 128 + signal.SIGINT
        if status != STATUS_HOST_FAILED or left == 0:
            break
        left -= 1
    if args.tries > 1:
        sys.stdout.buffer.write(output.getvalue())
        sys.stdout.buffer.flush()
    return status
