#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A systemd-machined for tests, on the bus that $VTLD_TEST_BUS names: knows the machines in a JSON file.

    {"machines": {"PID": {"uuid": "...", "service": "libvirt-qemu", "class": "vm"}},
     "delay": seconds before each answer, "silent": no answer at all, "error": the name of an error for each}

The tests use the class Machined; this file is also the program that it starts.
"""

import json
import os
import subprocess
import sys
import uuid

NAME = "org.freedesktop.machine1"
MACHINES = "/org/freedesktop/machine1/machine/"


class Machined:
    """Runs on the bus of @daemons until stop()."""

    def __init__(self, daemons, **state):
        self.path = os.path.join(daemons.directory, "machines.json")
        self.set(**state)
        self.process = subprocess.Popen(["/usr/bin/python3", os.path.abspath(__file__), self.path],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        env={**os.environ, "VTLD_TEST_BUS": daemons.address})
        assert self.process.stdout.readline() == b"ready\n", "machined is on the bus"

    def set(self, machines=None, **more):
        """Of now on: @machines by process."""
        with open(self.path + ".new", "w") as f:
            json.dump({"machines": {str(pid): {"uuid": str(m)} if isinstance(m, (str, uuid.UUID)) else m
                                    for pid, m in (machines or {}).items()}, **more}, f)
        os.rename(self.path + ".new", self.path)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def main(path):
    import dbus
    import dbus.mainloop.glib
    import dbus.service
    from gi.repository import GLib

    def state():
        with open(path) as f:
            return json.load(f)

    class Manager(dbus.service.Object):
        """Answers with what the file says at that moment."""

        def answer(self, make, ok, error):
            now = state()

            def give():
                try:
                    if "error" in now:
                        raise dbus.exceptions.DBusException("as the test wants it", name=now["error"])
                    ok(make(now))
                except Exception as e:
                    error(e)
                return False
            if not now.get("silent"):
                GLib.timeout_add(int(now.get("delay", 0) * 1000), give)

        @dbus.service.method(NAME + ".Manager", in_signature="u", out_signature="o",
                             async_callbacks=("ok", "error"))
        def GetMachineByPID(self, pid, ok, error):
            def make(now):
                if str(pid) not in now["machines"]:
                    raise dbus.exceptions.DBusException("PID %d does not belong to any known machine" % pid,
                                                        name=NAME + ".NoMachineForPID")
                return MACHINES + str(pid)
            self.answer(make, ok, error)

    class Machines(dbus.service.FallbackObject):
        """All machines: the last part of the path is the process."""

        @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="s", out_signature="a{sv}",
                             path_keyword="path")
        def GetAll(self, interface, path):
            assert interface == NAME + ".Machine"
            machine = state()["machines"][path.rsplit("/", 1)[1]]
            return {"Name": "qemu-1-test", "Service": machine.get("service", "libvirt-qemu"),
                    "Class": machine.get("class", "vm"), "Leader": dbus.UInt32(1),
                    "Id": dbus.ByteArray(uuid.UUID(machine["uuid"]).bytes)}

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection(os.environ["VTLD_TEST_BUS"])
    objects = Manager(bus, "/org/freedesktop/machine1"), Machines(bus, MACHINES.rstrip("/"))
    assert bus.request_name(NAME) == dbus.bus.REQUEST_NAME_REPLY_PRIMARY_OWNER
    print("ready", flush=True)
    GLib.MainLoop().run()
    del objects


if __name__ == "__main__":
    main(sys.argv[1])
