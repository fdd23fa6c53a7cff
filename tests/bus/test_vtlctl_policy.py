#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vtlctl policy: check, show, explain, sign and verify, for which no service is needed."""

import fcntl
import pty
import termios

from common import *
from signing import ALGORITHMS, Key

EX_USAGE = 64
DIGEST = "0123456789abcdef" * 6


class Policy:
    """Policy files in a directory of their own. @config: more lines of vtld.conf"""

    def __init__(self, config="", **files):
        self.directory = tempfile.mkdtemp(prefix="vtld-test-")
        self.write("vtld.conf", "[vtld]\npolicy-directories=%s/etc:%s/lib\nkeys-directory=%s/keys\n" %
                   ((self.directory,) * 3) + (config or "policy=%s/policy.conf\n" % self.directory))
        self.write("policy.conf", "# nothing\n")
        for name, text in files.items():
            self.write(name, text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def vtlctl(self, *arguments, bus="unix:path=/nowhere"):
        return subprocess.run([program("vtlctl"), "--bus=" + bus, "--config=" + self.path("vtld.conf"), *arguments],
                              text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)

    def output(self, *arguments, **more):
        answer = self.vtlctl(*arguments, **more)
        assert answer.returncode == 0 and not answer.stderr, answer
        return answer.stdout

    def json(self, *arguments, **more):
        return json.loads(self.output("--json", *arguments, **more))

    def failure(self, *arguments, status=1):
        answer = self.vtlctl(*arguments)
        assert answer.returncode == status and answer.stderr, answer
        return answer.stderr

    def key(self, name, **more):
        return Key(self.path("private"), name, **more)

    def trust(self, key):
        self.write("keys/%s" % os.path.basename(key.path), key.public)


RULES = """[match windows] ; those
name = win-*
uid = 64055
allow-vtl1 = yes
max-vps = 8
measurement = %s
measurement = %s
mbec = accept-unenforced

[match rest]
name=*
allow-vtl1=no
""" % (DIGEST, DIGEST.upper())
# What no host can enforce
DEVICES = RULES.replace("mbec =", "dma-enforcement = full\nmbec =")


# ---- check ----

def test_check():
    with Policy() as p:
        p.write("etc/10-a.conf", DEVICES)
        assert p.output("policy", "check") == (
            "warning: %s:1: [match windows] allows no VM VTL1: it requires dma-enforcement = full, and here it is none\n"
            "2 rules of 2 files, signatures are optional.\n" % p.path("etc/10-a.conf"))
        p.write("lib/20-b.conf", "[match later]\nname=x\nallow-vtl1=yes\n")
        answer = p.json("policy", "check")
        assert (answer["Files"], answer["Rules"], answer["Errors"]) == (3, 3, [])
        assert answer["Warnings"][1] == ("%s:1: [match later] is for no VM: [match rest] before it matches every one" %
                                         p.path("lib/20-b.conf"))


def test_check_names_every_bad_file():
    with Policy() as p:
        p.write("policy.conf", "rubbish\n")
        p.write("etc/10-a.conf", "[match a]\nname=*\n")
        p.write("etc/20-b.conf", RULES)
        p.write("lib/30-c.conf", "[match c]\nname=*\nallow-vtl1=yes\nmax-vps=65\n")
        p.write("lib/10-a.conf", "hidden\n")
        errors = p.failure("policy", "check").rstrip("\n").split("\n")
        assert errors == [p.path("policy.conf") + ":1: neither a section nor key=value",
                          p.path("etc/10-a.conf") + ":1: [match a] has no allow-vtl1=",
                          p.path("lib/30-c.conf") + ":4: max-vps= is a number from 1 to 64"], errors
        answer = p.vtlctl("--json", "policy", "check")
        assert answer.returncode == 1 and json.loads(answer.stdout)["Errors"] == errors


def test_check_sees_what_is_wrong_with_all_together():
    with Policy() as p:
        p.write("etc/10-a.conf", RULES)
        p.write("etc/20-b.conf", RULES)
        assert p.failure("policy", "check") == "%s:1: [match windows] is there already, in %s:1\n" % (
            p.path("etc/20-b.conf"), p.path("etc/10-a.conf"))


def test_check_of_files():
    with Policy() as p:
        good, bad = p.write("x.conf", RULES), p.write("y.conf", "rubbish\n")
        assert p.output("policy", "check", good, os.devnull) == ""
        assert p.failure("policy", "check", good, bad, "/nowhere") == \
            bad + ":1: neither a section nor key=value\n/nowhere: No such file or directory\n"


def test_check_without_any_file():
    with Policy(config="\n") as p:
        if os.path.exists("/etc/vtld/policy.conf") or os.path.exists("/usr/local/etc/vtld/policy.conf"):
            raise Skip("this machine has a policy")
        assert p.output("policy", "check") == "There is no policy file: every VM may enable VTL1.\n"
        assert p.output("policy", "show") == "# There is no policy file: every VM may enable VTL1.\n"
        assert "\nVTL1 is allowed.\n" in p.output("policy", "explain", "--name=x")
        assert p.json("policy", "show")["Policy"] is False
        p.write("vtld.conf.d/x.conf", "[vtld]\npolicy-signatures=required\n")
        assert p.output("policy", "check") == "There is no policy file: no VM may enable VTL1.\n"
        assert "\nVTL1 is refused.\n" in p.output("policy", "explain", "--name=x")


def test_a_bad_vtld_conf():
    with Policy(config="nonsense=1\n") as p:
        for verb in (["check"], ["show"], ["explain", "--name=x"], ["verify", "x"]):
            assert p.path("vtld.conf") + ":4: unknown key \"nonsense\"" in p.failure("policy", *verb)


def test_the_examples():
    def example(name):
        with open(os.path.join(SRCDIR, "data", name)) as f:
            return f.read()
    with Policy() as p:
        p.write("policy.conf", example("policy.conf.example"))
        assert p.output("policy", "check") == "4 rules of 1 files, signatures are optional.\n"
        # Each key that vtld has an option for, and none else
        text = re.sub(r"(?m)^#(?=[a-z-]+ = )", "", example("vtld.conf.example"))
        keys = re.findall(r"(?m)^([a-z-]+) = ", text)
        options = re.findall(r"(?m)^  --([a-z-]+)=", subprocess.run([program("vtld"), "--help"], text=True, check=True,
                                                                   stdout=subprocess.PIPE).stdout)
        assert sorted(keys) == sorted(set(options) - {"config", "fd"})
        with open(os.path.join(SRCDIR, "man", "vtld.conf.5")) as f:
            page = f.read()
        assert sorted(re.findall(r"(?m)^\.It Cm ([a-z-]+) No =", page)) == sorted(keys), "the manual page has all keys"
        p.write("vtld.conf", text.replace("/etc/vtld", p.directory))
        p.output("policy", "check")


def test_the_manual_page_has_all_keys():
    with open(os.path.join(SRCDIR, "man", "vtl-policy.5")) as f:
        page = f.read()
    with Policy() as p:
        p.write("etc/10-a.conf", RULES)
        for key in list(p.json("policy", "show")["Rules"][0]["Gets"]) + ["name", "uuid", "uid", "libvirt-domain", "libvirt-policy"]:
            assert re.search(r"(?m)^\.It Cm %s( No =|$)" % key, page), key


# ---- show ----

def test_show():
    with Policy() as p:
        p.write("etc/10-a.conf", RULES)
        p.write("lib/20-b.conf", "[match c]\nlibvirt-domain=x\nallow-vtl1=yes\n")
        p.write("etc/20-b.conf", "")
        text = p.output("policy", "show")
        assert text == """# 2 rules of 3 files; signatures are optional. What no rule matches is refused.
#   %s: unsigned
#   %s: unsigned
#   %s: unsigned, hides others of its name

# %s:1
[match windows]
name = win-*
uid = 64055
allow-vtl1 = yes
max-vps = 8
measurement = %s
measurement = %s
mbec = accept-unenforced

# %s:10
[match rest]
name = *
allow-vtl1 = no
""" % (p.path("policy.conf"), p.path("etc/10-a.conf"), p.path("etc/20-b.conf"), p.path("etc/10-a.conf"), DIGEST, DIGEST,
       p.path("etc/10-a.conf")), text
        # What is shown is a policy, and the same one.
        shown = p.json("policy", "show")
        os.unlink(p.path("etc/10-a.conf"))
        p.write("policy.conf", text)
        again = p.json("policy", "show")
        assert [(r["Name"], r["Match"], r["Gets"]) for r in again["Rules"]] == \
            [(r["Name"], r["Match"], r["Gets"]) for r in shown["Rules"]]


def test_show_as_json():
    with Policy() as p:
        p.write("etc/10-a.conf", RULES)
        shown = p.json("policy", "show")
        assert shown["Policy"] is True and shown["Signatures"] == "optional"
        assert shown["Files"][1] == {"File": p.path("etc/10-a.conf"), "Signature": "unsigned", "Key": None, "Mask": False}
        rule = shown["Rules"][0]
        assert (rule["Name"], rule["File"], rule["Line"]) == ("windows", p.path("etc/10-a.conf"), 1)
        assert rule["Match"] == {"name": "win-*", "uid": "64055"}
        assert rule["Gets"] == {
            "allow-vtl1": True, "max-vps": 8, "execute-enforcement": "any", "dma-enforcement": "any",
            "measurement": [DIGEST, DIGEST], "allow-register-read": False, "mbec": "accept-unenforced", "vtl1-apic": "off",
            "lower-vtl-ipi": "deliver", "deny-startup": "refuse", "cr-intercepts": "refuse", "debug-registers": "lazy",
            "kernel-hypercalls": "yes",
            "strict-execute-pages": 0, "reserve-mappings": 4096}
        assert shown["Rules"][1]["Gets"]["max-vps"] is None


def test_show_of_bad_files():
    with Policy() as p:
        p.write("etc/10-a.conf", "rubbish\n")
        for arguments in ["policy", "show"], ["--json", "policy", "show"], ["policy", "explain", "--name=x"]:
            assert p.failure(*arguments) == "vtlctl: %s:1: neither a section nor key=value\n" % p.path("etc/10-a.conf")


# ---- explain ----

def test_explain():
    with Policy() as p:
        p.write("etc/10-a.conf", "[match dom]\nlibvirt-domain=win*\nallow-vtl1=yes\n" + DEVICES)
        text = p.output("policy", "explain", "--name=win-3", "--uid=1000")
        where = p.path("etc/10-a.conf")
        assert text.startswith("""The VM: name="win-3" uid="1000"

%s:1: [match dom] does not match: libvirt-domain = win*, and it is not known
%s:4: [match windows] does not match: uid = 64055, and it is "1000"
%s:14: [match rest] matches, and decides

VTL1 is refused.
""" % (where, where, where)), text
        assert "\n      reserve-mappings = 4096\n" in text
        text = p.output("policy", "explain", "--name=x", "--libvirt-domain=win-9")
        assert "[match dom] matches, and decides\n\nVTL1 is allowed.\n" in text and "[match windows]" not in text
        answer = p.json("policy", "explain", "--name=win-3", "--uid=64055", "--uuid=AAAAAAAA-0000-4000-8000-000000000000")
        assert answer["Vm"] == {"name": "win-3", "uuid": "aaaaaaaa-0000-4000-8000-000000000000", "uid": 64055,
                                "libvirt-domain": None, "libvirt-policy": None}
        assert [(r["Name"], r["Matches"], r.get("Key"), r.get("Value")) for r in answer["Rules"]] == [
            ("dom", False, "libvirt-domain", "win*"), ("windows", True, None, None)]
        assert answer["PolicyName"] == "windows" and answer["ServiceAgrees"] is None
        assert answer["Refusal"].startswith("it requires dma-enforcement = full") and answer["Gets"]["allow-vtl1"] is False
        os.unlink(p.path("etc/10-a.conf"))
        assert "No rule matches: the VM may not enable VTL1." in p.output("policy", "explain", "--name=x")


def test_explain_a_running_vm():
    with running_vm(name="win-3", vps=2) as (vm, _, _, _), Policy() as p:
        p.write("etc/10-a.conf", RULES)
        text = p.output("policy", "explain", "win-3", bus=daemons.address)
        assert text.startswith('The VM: name="win-3" uuid="%s" uid="%d"\n' % (vm.uuid, os.getuid()))
        assert "[match rest] matches, and decides" in text
        assert 'vtld has decided otherwise when this VM was started: policy "all", VTL1 allowed.' in text
        answer = p.json("policy", "explain", str(vm.uuid), bus=daemons.address)
        assert answer["ServiceAgrees"] is False and answer["PolicyName"] == "rest"
        p.write("etc/10-a.conf", "[match all]\nname=*\nallow-vtl1=yes\nmax-vps=1\n")
        text = p.output("policy", "explain", "win-3", bus=daemons.address)
        assert "decided otherwise" not in text
        assert 'The VM cannot be attached: policy "all" allows this VM at most 1 VPs, and it has 2.' in text
        answer = p.vtlctl("policy", "explain", "other", bus=daemons.address)
        assert answer.returncode == 1 and "no VM is named" in answer.stderr


# ---- sign and verify ----

def test_sign_and_verify():
    for algorithm in ALGORITHMS:
        with Policy() as p:
            key = p.key("mine", algorithm=algorithm)
            path = p.write("etc/10-a.conf", RULES)
            assert p.output("policy", "sign", "--key=" + key.path, path) == "%s.sig: %s, key %s\n" % (path, algorithm, key.id)
            assert os.stat(path + ".sig").st_mode & 0o777 == 0o644
            assert "the key %s is not known" % key.id in p.failure("policy", "verify", path)
            p.trust(key)
            assert p.output("policy", "verify", path) == "%s: signed, %s, key %s (%s)\n" % (
                path, algorithm, key.id, p.path("keys/mine.pem"))
            # What openssl makes is as good, and what is made here it can verify.
            key.sign(path, SRCDIR)
            assert "signed, " + algorithm in p.output("policy", "verify", path)
            p.write("etc/10-a.conf", RULES + "\n")
            assert p.failure("policy", "verify", path) == "vtlctl: %s.sig: the signature is not of this file\n" % path
            p.write("keys/revoked", key.id)
            assert "is revoked" in p.failure("policy", "verify", path)


def test_openssl_verifies_ours():
    for algorithm, options in ("ed25519", []), ("ecdsa-p384-sha384", ["-digest", "sha384"]):
        with Policy() as p:
            key = p.key("mine", algorithm=algorithm)
            path = p.write("x.conf", RULES)
            p.output("policy", "sign", "--key=" + key.path, path)
            with open(path + ".sig") as f:
                value = bytes.fromhex(f.read().split("\n")[3].removeprefix("value "))
            message = b"vtld policy v1\0x.conf\0%d\0" % len(RULES) + RULES.encode()
            answer = subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", *options, "-inkey", key.path, "-in",
                                     p.write("message", message), "-sigfile", p.write("value", value)],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert answer.returncode == 0 and b"Signature Verified Successfully" in answer.stdout, answer


def test_verify_with_one_key():
    with Policy() as p:
        key, other = p.key("mine"), p.key("other")
        path = p.write("x.conf", RULES)
        p.output("policy", "sign", "--key=" + key.path, path)
        public = p.write("public.pem", key.public)
        assert "signed, ed25519" in p.output("policy", "verify", "--key=" + public, path)
        assert "is not known" in p.failure("policy", "verify", "--key=" + p.write("o.pem", other.public), path)
        assert "this is no public key" in p.failure("policy", "verify", "--key=" + key.path, path)
        os.makedirs(p.path("elsewhere"))
        shutil.copy(public, p.path("elsewhere"))
        assert "signed, ed25519" in p.output("policy", "verify", "--keys-directory=" + p.path("elsewhere"), path)


def test_what_cannot_be_signed():
    with Policy() as p:
        key = p.key("mine")
        rsa = p.key("rsa", options=["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        path = p.write("x.conf", "rubbish\n")
        assert p.failure("policy", "sign", "--key=" + key.path, path) == \
            "vtlctl: %s:1: neither a section nor key=value\n" % path
        assert not os.path.exists(path + ".sig")
        p.write("x.conf", RULES)
        assert "neither for Ed25519 nor for ECDSA" in p.failure("policy", "sign", "--key=" + rsa.path, path)
        assert "this is no private key" in p.failure("policy", "sign", "--key=" + p.write("public.pem", key.public), path)
        assert "No such file" in p.failure("policy", "sign", "--key=/nowhere", path)
        assert "No such file" in p.failure("policy", "sign", "--key=" + key.path, "/nowhere")
        assert not [name for name in os.listdir(p.directory) if name.startswith("x.conf.")]
        os.makedirs(p.path("x.conf.sig"))
        assert "x.conf.sig: Is a directory" in p.failure("policy", "sign", "--key=" + key.path, path)
        assert [name for name in os.listdir(p.directory) if name.startswith("x.conf.")] == ["x.conf.sig"]


def test_a_mask_is_signed_beside_the_link():
    with Policy("policy-signatures=required\n") as p:
        key = p.key("mine")
        p.trust(key)
        p.write("lib/10-a.conf", RULES)
        os.makedirs(p.path("etc"))
        os.symlink("/dev/null", p.path("etc/10-a.conf"))
        p.output("policy", "sign", "--key=" + key.path, p.path("lib/10-a.conf"), p.path("etc/10-a.conf"))
        assert "signed" in p.output("policy", "verify", p.path("etc/10-a.conf"))
        assert [f["Mask"] for f in p.json("policy", "show")["Files"]] == [True]


def test_a_key_with_a_passphrase():
    with Policy() as p:
        plain = p.key("plain")
        locked = p.path("private/locked.pem")
        subprocess.run(["openssl", "pkey", "-in", plain.path, "-aes256", "-passout", "pass:secret", "-out", locked], check=True,
                       stderr=subprocess.DEVNULL)
        path = p.write("x.conf", RULES)

        def sign(passphrase):
            # It is asked for on the terminal of the session, wherever standard input is from.
            parent, child = pty.openpty()
            process = subprocess.Popen([program("vtlctl"), "policy", "sign", "--key=" + locked, path], stdin=child,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                       preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
            os.close(child)
            os.read(parent, 1024)
            os.write(parent, passphrase + b"\n")
            out, err = process.communicate(timeout=TIMEOUT)
            os.close(parent)
            return process.returncode, out, err
        status, _, err = sign(b"wrong")
        assert status == 1 and "this is no private key" in err, err
        assert not os.path.exists(path + ".sig")
        status, out, err = sign(b"secret")
        assert status == 0 and plain.id in out, err


# ---- The command line ----

def test_usage():
    with Policy() as p:
        for arguments in (["policy"], ["policy", "dance"], ["policy", "show", "x"], ["policy", "explain"], ["policy", "sign"],
                          ["policy", "explain", "a", "b"], ["policy", "verify"], ["policy", "sign", "x"],
                          ["policy", "explain", "--uuid=x"], ["policy", "explain", "--uid=root"],
                          ["policy", "explain", "--uid=4294967296"], ["policy", "explain", "--uid="], ["list", "--name=x"]):
            assert "see vtlctl --help" in p.failure(*arguments, status=EX_USAGE), arguments
        text = p.output("--help")
        for word in "check", "show", "explain", "sign", "verify", "--config", "--key", "--name", "--libvirt-policy":
            assert word in text


def test_completion():
    script = os.path.join(SRCDIR, "data", "vtlctl.bash")

    def complete(*words, directory="/"):
        code = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _vtlctl; '
                'printf "%s\\n" "${COMPREPLY[@]}"')
        return subprocess.run(["bash", "-c", code, "bash", script, *words], text=True, stdout=subprocess.PIPE,
                              cwd=directory, timeout=TIMEOUT).stdout.split()
    assert complete("vtlctl", "policy", "") == ["check", "show", "explain", "sign", "verify"]
    assert complete("vtlctl", "policy", "s") == ["show", "sign"]
    assert "--key=" in complete("vtlctl", "policy", "sign", "--k")
    assert complete("vtlctl", "policy", "show", "--key") == ["--keys-directory="]
    assert complete("vtlctl", "policy", "explain", "--li") == ["--libvirt-domain=", "--libvirt-policy="]
    assert complete("vtlctl", "list", "--co") == []
    with Policy() as p:
        p.write("some-key.pem", "")
        for words in (["--key", "=", "some"], ["--key", "="]):
            assert "some-key.pem" in complete("vtlctl", "policy", "sign", *words, directory=p.directory)
        assert complete("vtlctl", "policy", "--key", "=", "some-key.pem", "ver", directory=p.directory) == ["verify"]
        assert complete("vtlctl", "policy", "check", "some", directory=p.directory) == ["some-key.pem"]


run(globals())
