#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the first corpora of fuzz-domains, what vtld-libvirt may tell, and fuzz-metadata."""

import os
import struct
import sys

MESSAGE, CUT, LOST = range(3)
STATE, DOMAIN, GONE, QUERY = range(1, 5)
OFF, CONNECTING, CONNECTED, FAILED = range(4)
INACTIVE, RUNNING, PAUSED, CRASHED = range(4)
SIZE = 324


def step(what, data):
    return struct.pack("=BBH", what, 0, len(data)) + data


def raw(kind, state=0, pid=0, run=0, uuid=b"", policy=b"", text=b""):
    return struct.pack("=IIII16s36s", kind, state, pid, run, uuid, policy) + text


def message(*args, **more):
    return step(MESSAGE, raw(*args, **more))


def state(number, text=b""):
    return message(STATE, number, text=text)


def domain(number, how=RUNNING, policy=b"hardened", name=b"one", run=None, pid=4711):
    run = (number if how else 0) if run is None else run
    return message(DOMAIN, how, pid if how else 0, run, bytes([number]) * 16, policy, name)


def gone(number):
    return message(GONE, uuid=bytes([number]) * 16)


UP = state(CONNECTING) + domain(1) + domain(2, INACTIVE, b"", b"two") + state(CONNECTED)
NS = b"https://vtld.org/xmlns/libvirt/domain/1.0"

DOMAINS = {
    "round": UP,
    "changes": UP + domain(1, PAUSED) + domain(1, CRASHED) + domain(1, INACTIVE) + domain(2, run=9) + gone(1),
    "resync": UP + state(CONNECTING) + domain(2) + state(CONNECTED),
    "restart": UP + step(LOST, b"killed by signal 9\n") + state(CONNECTING) + domain(3) + state(CONNECTED),
    "failed": state(CONNECTING) + state(FAILED, b"no libvirtd") + state(CONNECTING) + domain(1) +
              state(FAILED, b"\xff\x1b") + state(CONNECTING) + state(CONNECTED),
    "early": domain(1) + gone(1) + state(CONNECTED),
    "off": state(OFF) + state(17),
    "gone-unknown": UP + gone(9),
    "query": UP + message(QUERY, uuid=b"x" * 16),
    "types": UP + message(0) + message(5) + message(0xFFFFFFFF),
    "name-utf8": UP + domain(3, name="größe".encode()) + domain(3, name=b"\xc3"),
    "name-longest": UP + domain(3, name=b"n" * 255) + domain(4, name=b"n" * 256),
    "name-none": UP + domain(3, name=b"") + domain(3, name=b"a\nb"),
    "policy": UP + domain(3, policy=b"") + domain(3, policy=b"a b") + domain(3, policy=b"p" * 32) +
              domain(3, policy=b"p" * 33) + domain(3, policy=b"p" * 36),
    "run": UP + domain(3, RUNNING, run=0) + domain(3, INACTIVE, run=5) + domain(3, 4),
    "pid": UP + domain(3, pid=0) + domain(3, pid=0x7FFFFFFF) + domain(3, pid=0x80000000),
    "nil": UP + message(DOMAIN, RUNNING, 1, 1, b"", b"p", b"n") + gone(0),
    "short": UP + step(CUT, raw(GONE)) + step(CUT, b""),
    "long": UP + step(CUT, raw(GONE, text=b"x" * 300)),
    "exact": UP + step(CUT, raw(GONE).ljust(SIZE, b"\0")),
}

METADATA = {
    "plain": b"<policy>hardened</policy>",
    "spaces": b"<policy>\n  hardened\t</policy>\n",
    "longest": b"<policy>" + b"p" * 32 + b"</policy>",
    "too-long": b"<policy>" + b"p" * 33 + b"</policy>",
    "prefix": b"<vtld:policy xmlns:vtld='" + NS + b"'>x</vtld:policy>",
    "namespace": b"<policy xmlns='" + NS + b"'>x</policy>",
    "declaration": b"<?xml version='1.0' encoding='UTF-8'?><policy>x</policy>",
    "utf16": "<policy>x</policy>".encode("utf-16"),
    "cdata": b"<policy><![CDATA[x]]></policy>",
    "reference": b"<policy>&#120;&amp;</policy>",
    "entity": b"<!DOCTYPE p [<!ENTITY e 'x'>]><policy>&e;</policy>",
    "external": b"<!DOCTYPE p [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><policy>&e;</policy>",
    "parameter": b"<!DOCTYPE p [<!ENTITY % e '<!ENTITY x \"y\">'>%e;]><policy>&x;</policy>",
    "doctype": b"<!DOCTYPE policy SYSTEM 'policy.dtd'><policy>x</policy>",
    "attribute": b"<policy kind='y'>x</policy>",
    "comment": b"<policy>x<!-- y --></policy>",
    "instruction": b"<policy><?p x?></policy>",
    "child": b"<policy>x<b>y</b></policy>",
    "other": b"<other>x</other>",
    "empty": b"<policy/>",
    "open": b"<policy>x",
    "two": b"<policy>x</policy><policy>y</policy>",
    "deep": b"<a>" * 300,
    "nothing": b"",
}

base = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "corpus")
for directory, corpus in ("domains", DOMAINS), ("metadata", METADATA):
    os.makedirs(os.path.join(base, directory), exist_ok=True)
    for name, data in corpus.items():
        with open(os.path.join(base, directory, name), "wb") as f:
            f.write(data)
