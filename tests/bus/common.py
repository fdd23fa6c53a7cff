# SPDX-License-Identifier: LGPL-2.1-or-later
"""What all tests of the bus begin with: `from common import *`."""

import errno
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

# pylint: disable=unused-import,wrong-import-position
import tap
from tap import Skip
from vtld import *

MANAGER = "org.vtld1.Manager"
PARTITION = "org.vtld1.Partition"
PROCESSOR = "org.vtld1.VirtualProcessor"
ROOT = "/org/vtld1"

daemons = Daemons()


@contextlib.contextmanager
def running_vm(**more):
    """A VM that is attached and started; gone again afterwards. Yields (vm, client, path, pid of the worker)."""
    vm = Vm(**more)
    client = daemons.client()
    try:
        _, pid = client.bring_up(vm)
        yield vm, client, daemons.partition_path(vm.uuid), pid
    finally:
        client.close()
        vm.close()
        wait_for(lambda: daemons.busctl("call", "org.vtld1", ROOT, MANAGER, "GetPartition", "s", str(vm.uuid),
                                        check=False).returncode != 0, "the VM is gone")


def encode(text):
    """One element of an object path, as sd_bus_path_encode()."""
    return "".join(c if c.isalnum() and c.isascii() and not (i == 0 and c.isdigit()) else "_%02x" % ord(c)
                   for i, c in enumerate(text))


def error_of(*arguments):
    """What busctl says when a call fails."""
    answer = daemons.busctl(*arguments, check=False)
    assert answer.returncode != 0, "it must fail: %s" % answer.stdout
    return answer.stderr


def managed():
    return daemons.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]


def run(namespace):
    tap.main(namespace, daemons.stop)
