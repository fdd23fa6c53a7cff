#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpora of fuzz-policy, fuzz-signature and fuzz-config.

usage: make-corpus-policy.py DIRECTORY

There is one directory for each below DIRECTORY. The first line of a policy's file is what fuzz-policy.c
takes for a VM: user ID, name, UUID, libvirt domain and policy.
"""

import base64
import pathlib
import sys

VM = "64055,win-1,7d1f0a0e-0000-4000-8000-000000000000,-,-\n"
DOMAIN = "0,vm,7d1f0a0e-0000-4000-8000-000000000000,win-1,secure\n"
DIGEST = "0123456789abcdef" * 6
RULE = "[match a]\nname=*\nallow-vtl1=yes\n"
ED25519 = bytes.fromhex("302a300506032b6570032100") + bytes(range(32))
P384 = (bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200") +
        bytes.fromhex("04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"
                      "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f"))


def pem(der, label="PUBLIC KEY"):
    return "-----BEGIN %s-----\n%s-----END %s-----\n" % (label, base64.encodebytes(der).decode(), label)


def signature(algorithm="ed25519", key="0123456789abcdef", size=64):
    return "vtld signature 1\nalgorithm %s\nkey %s\nvalue %s\n" % (algorithm, key, bytes(range(size)).hex())


def one(key):
    return VM + RULE + key + "\n"


POLICY = {
    "empty": VM,
    "no-vm": "",
    "comments": VM + "# nothing\n\n; nothing\n  \n",
    "rules": VM + "[match windows] ; those\nname = win-*\nuid = 6405?\nallow-vtl1 = yes\n\n"
                  "[match one]\nuuid = 7D1F*\nallow-vtl1 = no ; for now\n[match rest]\nname=*\nallow-vtl1=no\n",
    "libvirt": DOMAIN + "[match a]\nlibvirt-domain=win-[0-9]\nlibvirt-policy=other\nallow-vtl1=yes\n"
                        "[match b]\nlibvirt-policy=secure\nallow-vtl1=yes\n",
    "everything": VM + RULE + "max-vps=8\nexecute-enforcement=bounded\ndma-enforcement=any\nallow-register-read=yes\n"
                              "mbec=accept-unenforced\nvtl1-apic=software-enabled\nlower-vtl-ipi=refuse\n"
                              "deny-startup=accept-unenforced\ncr-intercepts=accept-unenforced\n"
                              "debug-registers=exact\nkernel-hypercalls=no\nstrict-execute-pages=65536\nreserve-mappings=0\n",
    "measurements": one("measurement=%s\nmeasurement = %s" % (DIGEST, DIGEST.upper())),
    "pattern": DOMAIN + "[match a]\nname=[!a-u]?\\*[[:alpha:]]*\nallow-vtl1=yes\n",
    "crlf": (VM + RULE).replace("\n", "\r\n"),
    "no-newline": VM + RULE.rstrip("\n"),
    "utf-8": VM + "[match a]\nname=größe-*\nallow-vtl1=yes\n",
    "comment-as-value": VM + "[match a]\nname=;x\nallow-vtl1=yes\n",
    "bad-number": one("max-vps=65"),
    "bad-choice": one("mbec=perhaps"),
    "bad-digest": one("measurement=00"),
    "bad-section": VM + "[other]\n",
    "bad-key": one("colour=red"),
    "twice": one("name=x"),
    "twice-rule": VM + RULE + RULE,
    "unfinished": VM + "[match a]\nname=*\n[match b]\nname=*\nallow-vtl1=no\n",
    "indented": one(" name=x"),
    "long": one("#" + "x" * 300),
    "nul": VM.encode() + b"[match a]\nname=\0*\n",
    "not-utf-8": VM.encode() + b"[match a]\nname=\xff\n",
}

SIGNATURE = {
    "ed25519": "s" + signature(),
    "ecdsa": "s" + signature("ecdsa-p384-sha384", size=104),
    "ecdsa-short": "s" + signature("ecdsa-p384-sha384", size=8),
    "no-end": "s" + signature().rstrip("\n"),
    "more": "s" + signature() + "\n",
    "upper-case": "s" + signature().upper(),
    "short": "s" + signature(size=63),
    "cut": "s" + signature()[:40],
    "revoked": "r# lost\n0123456789abcdef\n0123456789ABCDEF since last year\r\n\n",
    "revoked-bad": "r0123456789abcdeg\n",
    "revoked-nul": "r0123456789abcdef\0\n",
    "key-ed25519": "k" + pem(ED25519),
    "key-p384": "k" + pem(P384),
    "key-p384-off-the-curve": "k" + pem(P384[:-1] + b"\0"),
    "key-two": "k" + pem(ED25519) + pem(P384),
    "key-cut": "k" + pem(ED25519)[:60],
    "key-other-label": "k" + pem(ED25519, "PRIVATE KEY"),
    "nothing": "",
}

CONFIG = {
    "empty": "",
    "everything": "[vtld]\nsocket-path=/s\nbus=session\npolicy=/p\npolicy-directories=/a:/b\npolicy-signatures=required\n"
                  "keys-directory=/k\nmax-vms=4096\nexit-idle-time=86400\nlog-level=err\nlibvirt-uri=test:///default\nmeasure-limit=1G\n"
                  "vina-poll-us=20\n",
    "sizes": "[vtld]\nmeasure-limit=999999999999G\n",
    "relative": "[vtld]\npolicy-directories=/a:b\n",
    "many-directories": "[vtld]\npolicy-directories=" + ":".join("/%x" % i for i in range(17)) + "\n",
    "twice": "[vtld]\nbus=session\n[vtld]\nbus=session\n",
    "bad-section": "[vtl]\n",
    "bad-key": "[vtld]\nfd=3\n",
    "bad-number": "[vtld]\nmax-vms=-1\n",
    "empty-text": "[vtld]\nbus=\n",
    "no-libvirt": "[vtld]\nlibvirt-uri=\n",
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, corpus in ("policy", POLICY), ("signature", SIGNATURE), ("config", CONFIG):
        directory = pathlib.Path(sys.argv[1], name)
        directory.mkdir(parents=True, exist_ok=True)
        for file, data in corpus.items():
            (directory / file).write_bytes(data if isinstance(data, bytes) else data.encode())


if __name__ == "__main__":
    main()
