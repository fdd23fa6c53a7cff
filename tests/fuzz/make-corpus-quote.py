#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpus of fuzz-quote: quotes of every state, signed by the key that the target trusts, and not."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

# pylint: disable=wrong-import-position
from quoting import *

NONCE = bytes(range(32))
SOUND = quote(NONCE, MEASURED, "measured", MEASUREMENT)

CORPUS = {
    "measured": SOUND,
    "none": quote(bytes(16), [], "none", NONE),
    "refused": quote(NONCE, REFUSED, "refused", MEASUREMENT),
    "unbounded": quote(NONCE, UNBOUNDED, "unbounded", NONE),
    "longest-nonce": quote(bytes(64), BEGIN, "none", NONE),
    "lost": quote(NONCE, BEGIN, "measured", MEASUREMENT, lost=1 << 40),
    "largest-numbers": quote(NONCE, [("config", 2 ** 32 - 1, 2 ** 64 - 1, 2 ** 64 - 1, b"\xff" * 48)] + MEASURED,
                             "measured", MEASUREMENT, limit=2 ** 64 - 1),
    "state-not-logged": quote(NONCE, BEGIN, "measured", MEASUREMENT),
    "chain-broken": seal(body(NONCE, MEASURED, "measured", MEASUREMENT).replace(b"config 0", b"config 1")),
    "altered": SOUND.replace(b"0x9000", b"0x9001"),
    "another-key": SOUND.replace(KEY_ID.encode(), b"0123456789abcdef"),
    "upper-case": SOUND.replace(b"nonce 000102030405060708090a", b"nonce 000102030405060708090A"),
    "leading-zero": SOUND.replace(b"limit 6", b"limit 06"),
    "too-many-events": SOUND.replace(b"events 4", b"events 257"),
    "cut": SOUND[:-1],
    "more": SOUND + b"\n",
    "empty": b"",
}

if __name__ == "__main__":
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "corpus", "quote")
    os.makedirs(directory, exist_ok=True)
    for name, data in CORPUS.items():
        with open(os.path.join(directory, name), "wb") as f:
            f.write(data)
