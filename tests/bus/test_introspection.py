#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The XML files in data/ say exactly what the running service offers."""

import xml.etree.ElementTree as ElementTree

from common import *

STANDARD = "org.freedesktop.DBus."


def describe(interface):
    """An interface as a dict: every member with its types, directions and annotations, without order."""
    members = {}
    for member in interface:
        if member.tag == "annotation":
            continue
        key = (member.tag, member.get("name"))
        assert key not in members, "%s is there twice" % (key,)
        members[key] = {
            "type": member.get("type"),
            "access": member.get("access"),
            "args": [(a.get("name"), a.get("type"), a.get("direction") or
                      ("out" if member.tag == "signal" else "in")) for a in member.findall("arg")],
            "annotations": sorted((a.get("name"), a.get("value")) for a in member.findall("annotation")),
        }
    return members


def of_service(path):
    text = daemons.busctl("introspect", "--xml-interface", "org.vtld1", path).stdout
    return {i.get("name"): describe(i) for i in ElementTree.fromstring(text).findall("interface")
            if not i.get("name").startswith(STANDARD)}


def of_file(interface):
    tree = ElementTree.parse(os.path.join(SRCDIR, "data", interface + ".xml"))
    interfaces = tree.getroot().findall("interface")
    assert [i.get("name") for i in interfaces] == [interface], "one interface per file"
    return describe(interfaces[0])


def same(path, interface):
    offered = of_service(path)
    assert list(offered) == [interface], "one interface of ours per object: %s" % list(offered)
    written = of_file(interface)
    assert set(offered[interface]) == set(written), "only in one: %s" % (set(offered[interface]) ^ set(written))
    for member, value in written.items():
        assert offered[interface][member] == value, "%s: %s is not %s" % (member, offered[interface][member], value)
    assert written, "the interface has members"


def test_manager():
    same(ROOT, MANAGER)


def test_partition():
    with running_vm() as (_, _, path, _):
        same(path, PARTITION)


def test_virtual_processor():
    with running_vm() as (_, _, path, _):
        same(path + "/vp/0", PROCESSOR)


def test_every_interface_has_a_file():
    files = {name[:-len(".xml")] for name in os.listdir(os.path.join(SRCDIR, "data")) if name.endswith(".xml")}
    assert files == {MANAGER, PARTITION, PROCESSOR}


def test_every_member_is_explained():
    for interface in MANAGER, PARTITION, PROCESSOR:
        with open(os.path.join(SRCDIR, "data", interface + ".xml")) as f:
            text = f.read()
        for member in re.finditer(r'^    <(?:property|method|signal) name="(\w+)"', text, re.MULTILINE):
            before = text[:member.start()].rstrip()
            assert before.endswith("-->"), "%s.%s has no comment" % (interface, member[1])


run(globals())
