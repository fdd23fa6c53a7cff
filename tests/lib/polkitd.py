#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A polkitd that answers as it is told, on the bus of a test.

    polkitd.py ADDRESS yes|no|challenge|silence|error|nonsense

Prints "ready", then each question as a line of JSON.
"""

import json
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME = "org.freedesktop.PolicyKit1"
INTERFACE = NAME + ".Authority"


def answer_of(kind):
    """What CheckAuthorization returns: (is_authorized, is_challenge, details)."""
    return dbus.Struct((kind == "yes", kind == "challenge", dbus.Dictionary({}, signature="ss")), signature="bba{ss}")


class Authority(dbus.service.Object):
    def __init__(self, bus, kind):
        super().__init__(bus, "/org/freedesktop/PolicyKit1/Authority")
        self.kind = kind
        self.unanswered = []

    @dbus.service.method(INTERFACE, in_signature="(sa{sv})sa{ss}us", out_signature="(bba{ss})",
                         async_callbacks=("reply", "fail"))
    def CheckAuthorization(self, subject, action, details, flags, cancellation, reply, fail):
        print(json.dumps({"kind": str(subject[0]), "name": str(subject[1]["name"]), "action": str(action),
                          "details": len(details), "flags": int(flags), "cancellation": str(cancellation)}), flush=True)
        if self.kind == "silence":
            self.unanswered.append(reply)
        elif self.kind == "error":
            fail(dbus.DBusException("the authority is out of order\x07", name=NAME + ".Error.Failed"))
        else:
            reply(answer_of(self.kind))


class Liar(dbus.service.Object):
    """Answers with another type than polkit does."""

    @dbus.service.method(INTERFACE, in_signature="(sa{sv})sa{ss}us", out_signature="s")
    def CheckAuthorization(self, subject, action, details, flags, cancellation):
        print(json.dumps({"action": str(action)}), flush=True)
        return "yes"


def main():
    address, kind = sys.argv[1:]
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection(address)
    authority = Liar(bus, "/org/freedesktop/PolicyKit1/Authority") if kind == "nonsense" else Authority(bus, kind)
    name = dbus.service.BusName(NAME, bus, do_not_queue=True)
    print("ready", flush=True)
    GLib.MainLoop().run()
    del authority, name


main()
