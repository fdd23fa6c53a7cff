#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The shipped bus policy: everybody may look, only the service may be the service."""

import xml.etree.ElementTree as ElementTree

from common import *

NOBODY = 65534


def as_nobody(*arguments):
    if os.getuid() != 0:
        raise Skip("becoming another user needs root")
    return subprocess.run(["busctl", "--address=" + daemons.address, *arguments], user=NOBODY, group=NOBODY,
                          extra_groups=[], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)


def allowed(*arguments):
    answer = as_nobody(*arguments)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def denied(*arguments):
    answer = as_nobody(*arguments)
    assert answer.returncode != 0, answer.stdout
    assert "denied" in answer.stderr.lower() or "not allowed" in answer.stderr.lower() or \
        "rejected" in answer.stderr.lower(), answer.stderr


def test_everybody_may_look():
    with running_vm() as (vm, _, path, _):
        assert str(vm.uuid) in allowed("get-property", "org.vtld1", path, PARTITION, "Uuid")
        assert path in allowed("call", "org.vtld1", ROOT, MANAGER, "ListPartitions")
        assert path in allowed("call", "org.vtld1", ROOT, MANAGER, "GetPartition", "s", str(vm.uuid))
        assert path in allowed("call", "org.vtld1", ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        assert path in allowed("--list", "tree", "org.vtld1")
        allowed("call", "org.vtld1", path, "org.freedesktop.DBus.Properties", "GetAll", "s", PARTITION)
        allowed("call", "org.vtld1", ROOT, "org.freedesktop.DBus.Peer", "Ping")


def test_nobody_may_set_a_property():
    with running_vm() as (_, _, path, _):
        denied("set-property", "org.vtld1", path, PARTITION, "State", "s", "running")


def test_what_is_not_named_is_denied():
    denied("call", "org.vtld1", ROOT, MANAGER, "LoadPolicy")
    denied("call", "org.vtld1", ROOT, "org.vtld1.Other", "ListPartitions")


# What everybody may call, as far as the bus is concerned; all else is root's and vtld's.
OF_EVERYBODY = {(MANAGER, "ListPartitions"), (MANAGER, "GetPartition"), (MANAGER, "Reload"),
                (PARTITION, "Detach")}


def methods():
    """(interface, name, signature) of each method that there is"""
    for interface in MANAGER, PARTITION, PROCESSOR:
        tree = ElementTree.parse(os.path.join(SRCDIR, "data", interface + ".xml"))
        for method in tree.getroot().find("interface").findall("method"):
            yield interface, method.get("name"), [a.get("type") for a in method.findall("arg") if a.get("direction") == "in"]


def test_each_method():
    values = {"s": ["x"], "t": ["0"], "ay": ["0"], "at": ["0"], "u": ["0"]}
    names = set()
    with running_vm() as (_, _, path, _):
        objects = {MANAGER: ROOT, PARTITION: path, PROCESSOR: path + "/vp/0"}
        for interface, name, types in methods():
            names.add((interface, name))
            call = ["call", "org.vtld1", objects[interface], interface, name]
            if types:
                call += ["".join(types), *[v for t in types for v in values[t]]]
            if (interface, name) in OF_EVERYBODY:
                answer = as_nobody(*call)
                assert "rejected" not in answer.stderr.lower(), (name, answer.stderr)
            else:
                denied(*call)
    assert OF_EVERYBODY < names, "there are such methods, and others"


def test_only_the_service_may_be_the_service():
    denied("call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su",
           "org.vtld1", "0")


def test_the_policy_names_its_users_only():
    with open(os.path.join(SRCDIR, "data", "org.vtld1.conf")) as f:
        text = f.read()
    assert sorted(re.findall(r'<policy (?:user|context)="(\w+)"', text)) == ["default", "root", "vtld"]
    default = text[text.index('<policy context="default">'):]
    assert "<allow own" not in default and '<deny send_destination="org.vtld1"/>' in default


run(globals())
