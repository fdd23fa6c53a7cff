#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies of several files, reloaded and signed, as the service takes them; and vtld.conf."""

from common import *
from signing import ALGORITHMS, Key

EX_DATAERR, EX_NOINPUT, EX_CONFIG = 65, 66, 78
ALLOW = "[match %s]\nname=*\nallow-vtl1=yes\n"


class Files(Daemons):
    """vtld with directories of its own for everything. @config: more lines of vtld.conf"""

    def __init__(self, config="", files=()):
        self.more_config = config
        self.files = files
        super().__init__()

    def write_policy(self, text):
        return self.policy_path  # not the one file that other tests have

    def start_vtld(self, options, environment=None):
        d = self.directory
        for name in "etc", "run", "lib", "keys":
            os.makedirs(os.path.join(d, name), exist_ok=True)
        self.write("vtld.conf", "[vtld]\npolicy=%s/policy.conf\npolicy-directories=%s/etc:%s/run:%s/lib\n"
                                "keys-directory=%s/keys\n%s" % (d, d, d, d, d, self.more_config))
        self.write("policy.conf", "# nothing\n")
        for name, text in self.files:
            self.write(name, text)
        self.prepare()
        super().start_vtld((), environment)

    def prepare(self):
        pass

    def manager(self):
        properties = self.get_all(ROOT, MANAGER)
        return tuple(properties[name] for name in ("PolicyGeneration", "PolicyRules", "PolicySignatures", "PolicyError"))

    def remove(self, name):
        os.unlink(os.path.join(self.directory, name))

    def sign(self, key, name):
        return key.sign(os.path.join(self.directory, name), SRCDIR)

    def key(self, name, algorithm="ed25519"):
        return Key(os.path.join(self.directory, "private"), name, algorithm)

    def trust(self, key, name="k"):
        self.write("keys/%s.pem" % name, key.public)

    def explain(self, name="vm"):
        answer = subprocess.run([program("vtlctl"), "--bus=" + self.address, "--config=" + self.config_path, "--json",
                                 "policy", "explain", "--name=" + name], text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=TIMEOUT)
        assert answer.returncode == 0, answer
        return json.loads(answer.stdout)

    def decided(self, name="vm"):
        answer = self.explain(name)
        return answer["PolicyName"], answer["Gets"]["allow-vtl1"]


@contextlib.contextmanager
def files(*arguments, **more):
    own = Files(*arguments, **more)
    try:
        yield own
    finally:
        own.stop()


def test_files_are_merged():
    with files(files=[("policy.conf", "[match a]\nname=a*\nallow-vtl1=no\n"),
                      ("lib/50-b.conf", "[match b]\nname=b*\nallow-vtl1=yes\n"),
                      ("etc/90-rest.conf", ALLOW % "rest"), ("run/10-first.conf", ALLOW.replace("*", "f*") % "first")]) as own:
        assert own.manager() == (1, 4, "optional", "")
        assert own.decided("apple") == ("a", False)
        assert own.decided("banana") == ("b", True)
        assert own.decided("fig") == ("first", True)
        assert own.decided("other") == ("rest", True)
        assert "policy: 4 rules of 4 files, signatures are optional" in own.log()


def test_a_mask_hides():
    with files(files=[("lib/50-b.conf", "[match b]\nname=*\nallow-vtl1=no\n"), ("lib/90-rest.conf", ALLOW % "rest")]) as own:
        assert own.decided() == ("b", False)
        own.write("run/50-b.conf", ALLOW % "b-run")
        own.reload()
        assert own.decided() == ("b-run", True) and own.manager()[:2] == (2, 2)
        own.write("etc/50-b.conf", "")
        own.reload()
        assert own.decided() == ("rest", True) and own.manager()[:2] == (3, 1)
        own.remove("etc/50-b.conf")
        os.symlink("/dev/null", os.path.join(own.directory, "etc", "50-b.conf"))
        own.reload()
        assert own.decided() == ("rest", True) and own.manager()[:2] == (4, 1)
        own.remove("etc/50-b.conf")
        own.remove("run/50-b.conf")
        own.reload()
        assert own.decided() == ("b", False) and own.manager()[:2] == (5, 2)


def test_a_reload_is_all_or_nothing():
    with files(files=[("etc/10-a.conf", ALLOW % "a"), ("etc/20-b.conf", ALLOW % "b")]) as own:
        assert own.manager() == (1, 2, "optional", "")
        own.write("etc/10-a.conf", ALLOW % "new-1" + ALLOW % "new-2")
        own.write("etc/20-b.conf", "[match b]\nname=*\nallow-vtl1=perhaps\n")
        own.write("etc/30-c.conf", ALLOW % "c")
        own.reload()
        assert own.manager() == (1, 2, "optional", own.directory + "/etc/20-b.conf:3: allow-vtl1= is yes or no")
        assert "the policy stays as it was" in own.log()
        status = subprocess.run([program("vtlctl"), "--bus=" + own.address, "status"], text=True, stdout=subprocess.PIPE,
                                timeout=TIMEOUT)
        assert "THE POLICY COULD NOT BE READ: " + own.manager()[3] in status.stdout
        own.write("etc/20-b.conf", ALLOW % "b")
        own.reload()
        assert own.manager() == (2, 4, "optional", "")


def test_changes_of_the_policy_are_announced():
    with files() as own:
        monitor = subprocess.Popen(["busctl", "--address=" + own.address, "--json=short", "monitor", "org.vtld1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(monitor.stdout.readline, "")), daemon=True)
        reader.start()

        def announced():
            return [json.loads(line)["payload"]["data"][1] for line in lines
                    if '"PropertiesChanged"' in line and MANAGER in line]

        # Whether the monitor listens yet is seen when it hears something.
        def heard():
            own.reload()
            return announced()
        wait_for(heard, "the monitor listens")
        own.write("etc/10-a.conf", "nonsense\n")
        own.reload()
        wait_for(lambda: any("/etc/10-a.conf:1: " in c.get("PolicyError", {}).get("data", "") for c in announced()),
                 "the error is announced")
        monitor.terminate()
        monitor.wait()


def test_a_bad_drop_in_at_the_start():
    with files() as own:
        own.write("etc/10-a.conf", "[match a]\nname=*\n")
        for more, text in ((["--policy-directories=" + own.directory + "/etc"], "/etc/10-a.conf:1: [match a] has no allow"),
                           (["--policy=/nowhere"], "/nowhere: No such file")):
            answer = subprocess.run([program("vtld"), "--config=" + own.config_path, "--bus=" + own.address,
                                     "--socket-path=" + own.directory + "/n.sock", *more], text=True, timeout=TIMEOUT,
                                    stderr=subprocess.PIPE)
            assert answer.returncode == (EX_DATAERR if "10-a" in text else EX_NOINPUT), answer
            assert text in answer.stderr, answer.stderr


def test_nothing_but_masks_is_no_policy():
    with files(files=[("lib/50-b.conf", "[match b]\nname=*\nallow-vtl1=no\n"), ("etc/50-b.conf", "")]) as own:
        own.write("policy.conf", "# a file\n")
        own.reload()
        assert own.decided() == ("unmatched", False)


# ---- Signatures ----

class Signed(Files):
    """Signatures are required, and the one file there is is signed by openssl(1)."""

    algorithm = "ed25519"

    def prepare(self):
        self.good = self.key("good", self.algorithm)
        self.trust(self.good)
        self.write("policy.conf", ALLOW % "signed")
        self.sign(self.good, "policy.conf")


@contextlib.contextmanager
def signed(config="policy-signatures=required\n", algorithm="ed25519"):
    own = type("Own", (Signed,), {"algorithm": algorithm})(config)
    try:
        yield own
    finally:
        own.stop()


def test_signatures_of_openssl():
    for algorithm in ALGORITHMS:
        with signed(algorithm=algorithm) as own:
            assert own.manager() == (1, 1, "required", "")
            assert own.decided() == ("signed", True)
            assert "signed with the key " + own.good.id in own.log()
            # A drop-in, and a mask
            own.write("lib/10-a.conf", ALLOW % "a")
            own.sign(own.good, "lib/10-a.conf")
            own.reload()
            assert own.manager() == (2, 2, "required", "")
            os.symlink("/dev/null", os.path.join(own.directory, "etc", "10-a.conf"))
            own.reload()
            assert own.manager()[0] == 2 and "10-a.conf: it is not signed" in own.manager()[3]
            own.sign(own.good, "etc/10-a.conf")
            own.reload()
            assert own.manager() == (3, 1, "required", "")


def test_what_is_not_signed_well_changes_nothing():
    with signed() as own:
        stranger = own.key("stranger")

        def refused(text):
            own.reload()
            generation, rules, _, error = own.manager()
            assert (generation, rules) == (1, 1) and text in error, own.manager()

        own.write("etc/10-a.conf", ALLOW % "a")
        refused("/etc/10-a.conf: it is not signed, and signatures are required")
        own.sign(stranger, "etc/10-a.conf")
        refused("/etc/10-a.conf.sig: the key %s is not among those in " % stranger.id)
        own.sign(own.good, "etc/10-a.conf")
        own.write("etc/10-a.conf", ALLOW % "b")
        refused("/etc/10-a.conf.sig: the signature is not of this file")
        own.sign(own.good, "etc/10-a.conf")
        os.rename(own.directory + "/etc/10-a.conf", own.directory + "/etc/05-a.conf")
        os.rename(own.directory + "/etc/10-a.conf.sig", own.directory + "/etc/05-a.conf.sig")
        refused("/etc/05-a.conf.sig: the signature is not of this file")
        own.write("etc/05-a.conf.sig", "rubbish")
        refused("/etc/05-a.conf.sig: line 1: not the line")
        own.sign(own.good, "etc/05-a.conf")
        own.write("keys/revoked", own.good.id + " lost\n")
        refused("/policy.conf.sig: the key %s is revoked" % own.good.id)
        own.remove("keys/revoked")
        own.remove("keys/k.pem")
        refused("/policy.conf.sig: the key %s is not among" % own.good.id)
        own.trust(own.good)
        own.reload()
        assert own.manager() == (2, 2, "required", "")


class Unsigned(Files):
    def prepare(self):
        self.good = self.key("good")
        self.trust(self.good)
        self.write("policy.conf", ALLOW % "signed")


def test_it_begins_closed():
    own = Unsigned("policy-signatures=required\n")
    generation, rules, _, error = own.manager()
    assert (generation, rules) == (0, 0) and "policy.conf: it is not signed" in error
    assert "there is no policy that can be trusted: no VM may enable VTL1 until one is loaded" in own.log()
    # It stays so, until a policy can be read.
    own.reload()
    assert own.manager()[0] == 0
    try:
        vm = Vm()
    except Skip:
        vm = None
    if vm:
        with own.client() as c:
            assert c.bring_up(vm)[0] == 0
            assert own.get(own.partition_path(vm.uuid), PARTITION, "PolicyName") == "unusable"
        vm.close()
    own.sign(own.good, "policy.conf")
    own.reload()
    assert own.manager() == (1, 1, "required", "")
    own.stop()


def test_required_and_no_file():
    own = Daemons()
    own.vtld.terminate()
    own.vtld.wait(TIMEOUT)
    own.write("vtld.conf", "[vtld]\npolicy-signatures=required\npolicy-directories=%s/none\n" % own.directory)
    own.start_vtld(())
    if "there is no policy file" not in own.log():
        raise Skip("this machine has a policy")
    assert "signatures are required, and there is no policy file: no VM may enable VTL1" in own.log()
    answer = subprocess.run([program("vtlctl"), "--config=" + own.config_path, "--json", "policy", "explain", "--name=vm"],
                            stdout=subprocess.PIPE, timeout=TIMEOUT)
    assert json.loads(answer.stdout)["Gets"]["allow-vtl1"] is False
    own.stop()


def test_optional_signatures():
    with signed(config="") as own:
        assert own.manager() == (1, 1, "optional", "")
        stranger = own.key("stranger")
        own.write("etc/10-a.conf", ALLOW % "a")
        own.reload()
        assert own.manager() == (2, 2, "optional", "")
        own.sign(stranger, "etc/10-a.conf")
        own.reload()
        assert own.manager() == (3, 2, "optional", "")
        assert "signed with the key %s, which is not known here: taken as unsigned" % stranger.id in own.log()
        own.trust(stranger, "stranger")
        own.write("etc/10-a.conf", ALLOW % "b")
        own.reload()
        assert own.manager()[0] == 3 and "the signature is not of this file" in own.manager()[3]


# ---- What the broker itself obeys; needs KVM ----

def test_max_vps():
    with files(files=[("etc/10-a.conf", "[match small]\nname=small\nallow-vtl1=yes\nmax-vps=2\n" + ALLOW % "rest")]) as own:
        vm, other, large = Vm(vps=2, name="small"), Vm(vps=3, name="small"), Vm(vps=3, name="large")
        with own.client() as c, own.client() as d, own.client() as e:
            assert c.bring_up(vm)[0] == 1
            d.version()
            d.refused(errno.EPERM, 'policy "small" allows this VM at most 2 VPs, and it has 3', ATTACH, other.payload(),
                      other.fds())
            # The policy that counts at START is that of this moment.
            e.version()
            e.attach(large)
            e.add_vps(large)
            own.write("etc/10-a.conf", "[match all]\nname=*\nallow-vtl1=yes\nmax-vps=2\n")
            own.reload()
            e.refused(errno.EPERM, "at most 2 VPs, and it has 3", START)
        for v in vm, other, large:
            v.close()


def test_requirements_that_cannot_be_met():
    with files(files=[("etc/10-a.conf", "[match strict]\nname=strict\nallow-vtl1=yes\nexecute-enforcement=full\n"
                                        "[match bounded]\nname=bounded\nallow-vtl1=yes\nexecute-enforcement=bounded\n"
                                        "strict-execute-pages=16\n")]) as own:
        # "bounded" can be had, but not where faults are imprecise, as those of this VM.
        for name, allowed in ("strict", False), ("bounded", False):
            vm = Vm(name=name)
            with own.client() as c:
                assert c.bring_up(vm)[0] == allowed
                assert own.get(own.partition_path(vm.uuid), PARTITION, "PolicyName") == name
            vm.close()
        assert 'policy "strict" refuses VTL1: it requires execute-enforcement = full, and here it is none' in own.log()
        assert 'policy "bounded" refuses VTL1: strict-execute-pages needs faults that are precise' in own.log()


def test_what_the_vmm_is_told():
    with files("vina-poll-us=1000\n",
               files=[("etc/10-a.conf", "[match a]\nname=*\nallow-vtl1=yes\nreserve-mappings=7\n")]) as own:
        vm = Vm()
        with own.client() as c:
            c.bring_up(vm)
            assert (c.reserve_mappings, c.vina_poll_us) == (7, 1000)
        vm.close()


# ---- vtld.conf ----

def test_vtld_conf():
    with files("max-vms=3\n[vtld]\nlog-level=info\n") as own:
        own.vtld.terminate()
        own.vtld.wait(TIMEOUT)

        def started(*options):
            process = subprocess.Popen([program("vtld"), "--config=" + own.config_path, "--bus=" + own.address,
                                        "--socket-path=" + own.directory + "/n.sock", *options], stderr=subprocess.PIPE,
                                       text=True)
            try:
                wait_for(lambda: own.busctl("status", "org.vtld1", check=False).returncode == 0 or
                         process.poll() is not None, "the name")
                return own.get(ROOT, MANAGER, "MaxPartitions") if process.poll() is None else process.stderr.read()
            finally:
                process.terminate()
                process.communicate()
                wait_for(lambda: own.busctl("status", "org.vtld1", check=False).returncode != 0, "the name is free")
        assert started() == 3
        own.write("vtld.conf.d/10-more.conf", "[vtld]\nmax-vms=5\n")
        assert started() == 5
        assert started("--max-vms=7") == 7
        own.write("vtld.conf.d/20-bad.conf", "[vtld]\nmax-vms=many\n")
        assert own.directory + "/vtld.conf.d/20-bad.conf:2: max-vms= is a number from 1 to 4096" in started()
        own.write("vtld.conf.d/20-bad.conf", "")
        assert started() == 5


def test_bad_configurations():
    for text, message in (("max-vms=3\n", ":1: a key before the first section"), ("[vtld]\nfd=3\n", ":2: unknown key")):
        path = daemons.write("other.conf", text)
        answer = subprocess.run([program("vtld"), "--config=" + path], text=True, stderr=subprocess.PIPE, timeout=TIMEOUT)
        assert answer.returncode == EX_CONFIG and path + message in answer.stderr, answer
    answer = subprocess.run([program("vtld"), "--config=/nowhere"], text=True, stderr=subprocess.PIPE, timeout=TIMEOUT)
    assert answer.returncode == EX_CONFIG and "/nowhere: No such file" in answer.stderr, answer


run(globals())
