#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host key and quotes, of the service and without it: vtl-measurement(7)."""

from common import *
import quoting

NONCE = bytes(range(32))


def verify(directory, text, nonce=NONCE, key=quoting.PUBLIC_PEM, options=()):
    """`vtlctl quote verify`, without any service."""
    for name, data in ("quote", text), ("key.pem", key):
        with open(os.path.join(directory, name), "wb") as f:
            f.write(data)
    return subprocess.run([os.path.abspath(program("vtlctl")), *options, "quote", "verify", "--key=key.pem", "--nonce=" + nonce.hex(), "quote"],
                          cwd=directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT,
                          env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"})


def accepted(*arguments, **more):
    with tempfile.TemporaryDirectory() as d:
        answer = verify(d, *arguments, **more)
    assert answer.returncode == 0 and not answer.stderr, answer
    return answer.stdout


def refused(why, *arguments, **more):
    with tempfile.TemporaryDirectory() as d:
        answer = verify(d, *arguments, **more)
    assert answer.returncode == 1 and not answer.stdout and why in answer.stderr, answer


def need_openssl():
    if not shutil.which("openssl"):
        raise Skip("no openssl here")


def test_quotes_of_another_hand_verify():
    need_openssl()
    out = accepted(quoting.quote(NONCE, quoting.MEASURED, "measured", quoting.MEASUREMENT))
    assert "VTL1 measured, " + quoting.MEASUREMENT.hex() in out and quoting.KEY_ID in out
    assert "VTL1 none\n" in accepted(quoting.quote(NONCE, [], "none", quoting.NONE))
    assert "VTL1 unbounded\n" in accepted(quoting.quote(NONCE, quoting.UNBOUNDED, "unbounded", quoting.NONE))
    assert "VTL1 refused, " in accepted(quoting.quote(NONCE, quoting.REFUSED, "refused", quoting.MEASUREMENT))
    assert "7 events are missing" in accepted(quoting.quote(NONCE, [], "none", quoting.NONE, lost=7))
    answer = json.loads(accepted(quoting.quote(NONCE, quoting.MEASURED, "measured", quoting.MEASUREMENT), options=["--json"]))
    assert answer["MeasurementDigest"] == quoting.MEASUREMENT.hex() and len(answer["Events"]) == 4
    assert answer["Events"][0] == {"Event": "partition-enabled", "Vp": 0, "Data0": 1, "Data1": 0, "Digest": "00" * 48}


def test_what_is_refused():
    need_openssl()
    sound = quoting.quote(NONCE, quoting.MEASURED, "measured", quoting.MEASUREMENT)
    from signing import Key
    with tempfile.TemporaryDirectory() as d:
        refused("signed with another key", sound, key=Key(d, "other").public)
    refused("the nonce is another one", sound, nonce=NONCE[:-1] + b"\xff")
    refused("the nonce is another one", sound, nonce=NONCE[:-1])
    refused("it was altered", sound.replace(b"0x9000", b"0x9001"))
    refused("it was altered", sound.replace(b"state measured", b"state unbounded"))
    lines = sound.splitlines(keepends=True)
    shorter = b"".join(lines[:9] + lines[10:]).replace(b"events 4", b"events 3")
    refused("it was altered", shorter)
    refused("it was altered", b"".join(lines[:7] + [lines[8], lines[7]] + lines[9:]))
    refused("not a line \"log DIGEST\"", sound.replace(b"events 4", b"events 3"))
    refused("this is no quote", b"")
    refused("something follows the signature", sound + b"x")
    refused("the log does not say", quoting.quote(NONCE, quoting.BEGIN, "measured", quoting.MEASUREMENT))
    refused("the log is not what its digest is of",
            quoting.seal(quoting.body(NONCE, quoting.MEASURED, "measured", quoting.MEASUREMENT).replace(b"config 0", b"config 1")))


def test_usage():
    for arguments in (["quote"], ["quote", "verify", "f"], ["quote", "verify", "--key=f", "f"], ["quote", "vm", "other"],
                      ["quote", "verify", "--key=f", "--nonce=00", "f"], ["quote", "vm", "--nonce=0"], ["list", "--nonce=" + "0" * 32],
                      ["status", "--output=f"], ["list", "--key=f"]):
        answer = subprocess.run([program("vtlctl"), *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=TIMEOUT)
        assert answer.returncode == 64, (arguments, answer)


def test_the_commands_of_the_manual_page():
    need_openssl()
    if not shutil.which("xxd"):
        raise Skip("no xxd here")
    import signing
    script = signing.recipe(SRCDIR, "vtl-measurement.7")
    sound = quoting.quote(NONCE, quoting.MEASURED, "measured", quoting.MEASUREMENT)
    with tempfile.TemporaryDirectory() as d:
        for text, status in (sound, 0), (sound.replace(b"0x9000", b"0x9001"), 1):
            for name, data in ("q", text), ("k", quoting.PUBLIC_PEM):
                with open(os.path.join(d, name), "wb") as f:
                    f.write(data)
            answer = subprocess.run(["sh", "-eu", "-c", "q=q k=k\n" + script], cwd=d, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, check=False)
            assert answer.returncode == status, answer


# ---- The host key of the service ----

@contextlib.contextmanager
def service(*options, environment=None):
    own = Daemons(*options, environment=environment)
    try:
        yield own
    finally:
        own.stop()


def host_key(own):
    return own.get(ROOT, MANAGER, "HostKey")


def quote_key(own, *options):
    return subprocess.run([program("vtlctl"), "--bus=" + own.address, "quote", "key", *options], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)


def test_a_key_is_made_once():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "host-key.pem")
        with service("--host-key=" + path) as own:
            key = host_key(own)
            assert key.startswith("-----BEGIN PUBLIC KEY-----\n")
            assert os.stat(path).st_mode & 0o7777 == 0o600 and os.listdir(d) == ["host-key.pem"]
            assert "made a new host key" in own.log()
            assert quote_key(own).stdout == key
            assert quote_key(own, "--output=" + os.path.join(d, "out")).stdout == ""
            with open(os.path.join(d, "out")) as f:
                assert f.read() == key
            own.nothing_leaked()
        with service("--host-key=" + path) as own:
            assert host_key(own) == key and "made a new host key" not in own.log()


def test_a_key_of_openssl_as_a_credential():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "vtld.host-key")
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o400), "wb") as f:
            f.write(quoting.PRIVATE_PEM)
        with service(environment={"CREDENTIALS_DIRECTORY": d}) as own:
            assert host_key(own).encode() == quoting.PUBLIC_PEM
            assert "host key %s, a credential" % quoting.KEY_ID in own.log()


def test_a_key_that_is_no_good_ends_vtld():
    for data, mode in (quoting.PRIVATE_PEM, 0o644), (quoting.PUBLIC_PEM, 0o600), (b"", 0o600):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "host-key.pem")
            with open(path, "wb") as f:
                f.write(data)
            os.chmod(path, mode)
            answer = subprocess.run([program("vtld"), "--config=/dev/null", "--socket-path=" + os.path.join(d, "s"), "--bus=" + daemons.address,
                                     "--host-key=" + path], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    timeout=TIMEOUT, check=False)
            assert answer.returncode in (65, 66) and path in answer.stderr, answer


def test_without_a_key():
    with service(environment={"CREDENTIALS_DIRECTORY": "/nonexistent"}) as own:
        if host_key(own):
            raise Skip("this machine has a host key")
        assert "there will be no quotes" in own.log()
        answer = quote_key(own)
        assert answer.returncode == 1 and "no host key" in answer.stderr


# ---- Of a VM ----

def test_a_vm_whose_vtl1_has_not_run():
    with tempfile.TemporaryDirectory() as d:
        with service("--host-key=" + os.path.join(d, "host-key.pem")) as own:
            vm = Vm()
            with own.client() as client:
                client.bring_up(vm)
                path = own.partition_path(vm.uuid)
                assert own.get(path, PARTITION, "MeasurementState") == "none"
                assert own.get(path, PARTITION, "MeasurementDigest") == ""
                text = own.call(path, PARTITION, "Quote", "ay", "32", *[str(b) for b in NONCE])[0]
                assert "VTL1 none\n" in accepted(text.encode(), key=host_key(own).encode())
                for n in 15, 65:
                    answer = own.busctl("call", "org.vtld1", path, PARTITION, "Quote", "ay", str(n), *["0"] * n, check=False)
                    assert answer.returncode != 0 and "nonce" in answer.stderr
            vm.close()


run(globals())
