# SPDX-License-Identifier: LGPL-2.1-or-later
"""Quotes as vtl-measurement(7) describes them, made with hashlib and openssl(1): nothing of vtld."""

import base64
import hashlib
import os
import struct
import subprocess
import tempfile

# The first test vector of RFC 8032: a key that everybody has
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
EVENTS = ["partition-enabled", "vp-enabled", "config", "measured", "unbounded", "refused"]
NONE = bytes(48)


def pem(kind, der):
    return ("-----BEGIN %s KEY-----\n%s\n-----END %s KEY-----\n" % (kind, base64.b64encode(der).decode(), kind)).encode()


PUBLIC_DER = bytes.fromhex("302a300506032b6570032100") + PUBLIC
PUBLIC_PEM = pem("PUBLIC", PUBLIC_DER)
PRIVATE_PEM = pem("PRIVATE", bytes.fromhex("302e020100300506032b657004220420") + SEED)
KEY_ID = hashlib.sha256(PUBLIC_DER).hexdigest()[:16]


def sign(message):
    """Ed25519 with the key above."""
    with tempfile.TemporaryDirectory() as d:
        key, text = os.path.join(d, "key"), os.path.join(d, "text")
        with open(key, "wb") as f:
            f.write(PRIVATE_PEM)
        with open(text, "wb") as f:
            f.write(message)
        return subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", text], check=True,
                              stdout=subprocess.PIPE).stdout


def digest_text(digest):
    return "-" if digest == NONE else digest.hex()


def chain(events):
    """@events: (name, VP, data, data, digest)"""
    digest = NONE
    for name, vp, first, second, of in events:
        digest = hashlib.sha384(digest + struct.pack("<IIQQ", EVENTS.index(name), vp, first, second) + of).digest()
    return digest


def body(nonce, events, state, measurement, uuid="01234567-89ab-cdef-0123-456789abcdef", limit=64 << 20, lost=0):
    lines = ["vtld quote 1", "nonce " + nonce.hex(), "vm " + uuid, "state " + state,
             "measurement " + digest_text(measurement), "limit %d" % limit, "events %d lost %d" % (len(events), lost)]
    lines += ["event %s %d 0x%x 0x%x %s" % (name, vp, first, second, digest_text(of))
              for name, vp, first, second, of in events]
    lines += ["log " + chain(events).hex(), "key " + KEY_ID]
    return ("\n".join(lines) + "\n").encode()


def seal(text):
    return text + b"value " + sign(b"vtld quote v1\0" + text).hex().encode() + b"\n"


def quote(*arguments, **more):
    return seal(body(*arguments, **more))


MEASUREMENT = hashlib.sha384(b"what runs").digest()
CONTEXT = hashlib.sha384(b"context").digest()
BEGIN = [("partition-enabled", 0, 1, 0, NONE), ("vp-enabled", 0, 1, 0, CONTEXT)]
MEASURED = BEGIN + [("measured", 0, 0x9000, 0, MEASUREMENT), ("config", 0, 0x3f, 0, NONE)]
REFUSED = BEGIN[:1] + [("refused", 0, 0x9000, 0, MEASUREMENT)]
UNBOUNDED = BEGIN + [("unbounded", 0, 64 << 20, 0, NONE)]
