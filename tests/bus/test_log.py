#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.freedesktop.LogControl1, and the journal that the broker's lines go to, with their fields."""

import os
import shutil
import subprocess
import sys

IN_NAMESPACE = os.environ.get("VTLD_TEST_OWN_RUN") == "yes"
if os.getuid() == 0 and not IN_NAMESPACE and shutil.which("unshare"):
    # A /run of our own, for a journal of our own: its socket has one place only.
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run"], stderr=subprocess.DEVNULL,
                      check=False).returncode == 0:
        os.environ["VTLD_TEST_OWN_RUN"] = "yes"
        os.execvp("unshare", ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh",
                              sys.executable, *sys.argv])

from common import *  # pylint: disable=wrong-import-position

LOG_PATH = "/org/freedesktop/LogControl1"
LOG = "org.freedesktop.LogControl1"
JOURNAL = "/run/systemd/journal/socket"


def set_property(name, value, check=True):
    return daemons.busctl("set-property", "org.vtld1", LOG_PATH, LOG, name, "s", value, check=check)


def message_id(name):
    with open(os.path.join(SRCDIR, "daemon", "messages.h")) as f:
        return re.search(r'#define MESSAGE_%s "([0-9a-f]{32})"' % name, f.read())[1]


class Journal:
    """The receiving end of sd_journal_sendv()."""

    def __init__(self):
        if not IN_NAMESPACE:
            raise Skip("needs root, and a mount namespace")
        os.makedirs(os.path.dirname(JOURNAL), exist_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(JOURNAL)
        os.chmod(JOURNAL, 0o666)
        self.socket.setblocking(False)
        self.entries = []

    def close(self):
        self.socket.close()
        os.unlink(JOURNAL)

    def read(self):
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                return self.entries
            self.entries.append(dict(line.split("=", 1) for line in data.decode().rstrip("\n").split("\n")))

    def find(self, name):
        return [e for e in self.read() if e.get("MESSAGE_ID") == message_id(name)]

    def wait(self, name):
        return wait_for(lambda: self.find(name), "message " + name)[0]


@contextlib.contextmanager
def in_journal():
    """vtld with a stderr that is a stream of the journal. Yields (daemons, journal)."""
    journal = Journal()
    own = Daemons()
    try:
        own.vtld.terminate()
        own.vtld.wait(TIMEOUT)
        stream = os.stat(own.log_path)
        own.start_vtld(("--policy=" + own.policy_path,),
                       {"JOURNAL_STREAM": "%d:%d" % (stream.st_dev, stream.st_ino)})
        yield own, journal
    finally:
        own.stop()
        journal.close()


def test_the_level():
    assert daemons.get(LOG_PATH, LOG, "LogLevel") == "debug"
    try:
        for level in "err", "warning", "notice", "info":
            set_property("LogLevel", level)
            assert daemons.get(LOG_PATH, LOG, "LogLevel") == level
        set_property("LogLevel", "err")
        size = len(daemons.log())
        daemons.reload()
        assert len(daemons.log()) == size, "nothing of level info is written"
    finally:
        set_property("LogLevel", "debug")
    assert "the log level is \"debug\" now" in daemons.log()


def test_bad_values():
    for name, value, text in (("LogLevel", "loud", "The level is"), ("LogLevel", "", "The level is"),
                              ("LogTarget", "printer", "The target is")):
        answer = set_property(name, value, check=False)
        assert answer.returncode != 0 and text in answer.stderr, answer.stderr
    assert daemons.get(LOG_PATH, LOG, "LogLevel") == "debug"


def test_what_systemctl_asks_for():
    assert daemons.get(LOG_PATH, LOG, "SyslogIdentifier") == "vtld"
    assert daemons.get(LOG_PATH, LOG, "LogTarget") == "console"


def test_only_root_sets_it():
    if os.getuid() != 0:
        raise Skip("becoming another user needs root")
    answer = subprocess.run(["busctl", "--address=" + daemons.address, "set-property", "org.vtld1", LOG_PATH, LOG,
                             "LogLevel", "s", "err"], user=65534, group=65534, extra_groups=[], text=True,
                            stderr=subprocess.PIPE, timeout=TIMEOUT)
    assert answer.returncode != 0
    assert daemons.get(LOG_PATH, LOG, "LogLevel") == "debug"


def test_without_a_journal_lines_go_to_stderr():
    if os.path.exists(JOURNAL):
        raise Skip("there is a journal here")
    set_property("LogTarget", "journal")
    try:
        daemons.reload()
        assert daemons.log().rstrip().split("\n")[-1].startswith("<6>policy: "), daemons.log()
    finally:
        set_property("LogTarget", "auto")
    assert daemons.get(LOG_PATH, LOG, "LogTarget") == "console"


def test_messages_in_the_journal():
    with in_journal() as (own, journal):
        loaded = journal.wait("POLICY_LOADED")
        assert loaded["MESSAGE"] == "policy: 1 rules of 1 files, signatures are optional"
        assert (loaded["PRIORITY"], loaded["SYSLOG_IDENTIFIER"]) == ("6", "vtld")
        own.write_policy("nonsense\n")
        own.reload()
        bad = journal.wait("POLICY_BAD")
        assert bad["PRIORITY"] == "3" and own.policy_path + ":1" in bad["MESSAGE"]
        assert not [e for e in journal.read() if any(key.startswith("CODE_") for key in e)]
        assert "POLICY_LOADED" not in own.log() and " rules of " not in own.log().split("ending;")[-1]


def test_the_target_can_be_changed():
    with in_journal() as (own, journal):
        assert own.get(LOG_PATH, LOG, "LogTarget") == "journal"
        own.busctl("set-property", "org.vtld1", LOG_PATH, LOG, "LogTarget", "s", "console")
        before = len(journal.find("POLICY_LOADED"))
        own.reload()
        assert len(journal.find("POLICY_LOADED")) == before
        assert "<6>policy: " in own.log().split("ending;")[-1]
        own.busctl("set-property", "org.vtld1", LOG_PATH, LOG, "LogTarget", "s", "auto")
        own.reload()
        wait_for(lambda: len(journal.find("POLICY_LOADED")) == before + 1, "the journal again")


def test_fields_of_a_vm():
    with in_journal() as (own, journal):
        # No control characters: such a name is refused when the VM is attached.
        vm = Vm(name="journal INJECTED=1")
        with own.client() as c:
            _, worker = c.bring_up(vm)
            started = journal.wait("VM_STARTED")
            assert started["VTLD_PARTITION"] == str(vm.uuid)
            assert started["VTLD_NAME"] == "journal INJECTED=1" and "INJECTED" not in started
            assert (started["VTLD_POLICY"], started["VTLD_WORKER_PID"]) == ("all", str(worker))
            assert (started["VTLD_VMM_PID"], started["VTLD_UID"]) == (str(os.getpid()), str(os.getuid()))
            os.kill(worker, signal.SIGKILL)
            failed = journal.wait("WORKER_FAILED")
            assert failed["VTLD_PARTITION"] == str(vm.uuid) and failed["VTLD_REASON"] == "killed by signal SIGKILL"
        gone = journal.wait("VM_GONE")
        assert gone["VTLD_PARTITION"] == str(vm.uuid)
        vm.close()


def test_fields_of_a_crash():
    with in_journal() as (own, journal):
        vm = Vm(name="crashing")
        with own.client() as c:
            c.bring_up(vm)
            vm.crash([0xc0ffee, 1, 2, 3, 4])
            crashed = journal.wait("GUEST_CRASHED")
            assert crashed["MESSAGE"] == "VM %s: VTL0 reports that it has crashed: 0xc0ffee" % vm.uuid
            assert (crashed["VTLD_NAME"], crashed["VTLD_VP"], crashed["VTLD_VTL"]) == ("crashing", "0", "0")
            assert (crashed["VTLD_CRASH"], crashed["PRIORITY"]) == ("0xc0ffee", "3")
        vm.close()


def test_every_message_is_documented():
    def read(*path):
        with open(os.path.join(SRCDIR, *path)) as f:
            return f.read()
    ids = re.findall(r'(?m)^#define MESSAGE_\w+ "([0-9a-f]{32})"$', read("daemon", "messages.h"))
    assert len(ids) == len(set(ids)) > 10
    assert sorted(re.findall(r"(?m)^-- ([0-9a-f]{32})$", read("data", "vtld.catalog"))) == sorted(ids)
    assert sorted(re.findall(r"(?m)^\.It Li ([0-9a-f]{32})$", read("man", "vtld.8"))) == sorted(ids)
    # Fields that the catalog puts into its texts, and those that are sent
    sent = set(re.findall(r'log_field\(&f, "(VTLD_\w+)"', "".join(read("daemon", f) for f in os.listdir(
        os.path.join(SRCDIR, "daemon")) if f.endswith(".c"))))
    assert set(re.findall(r"@(\w+)@", read("data", "vtld.catalog"))) <= sent
    fields = read("man", "vtld.8").partition(".Sh JOURNAL")[2].partition(".Sh ")[0]
    assert set(re.findall(r"VTLD_\w+", fields)) == sent


run(globals())
