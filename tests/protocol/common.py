# SPDX-License-Identifier: LGPL-2.1-or-later
"""What all tests of the attach protocol begin with: `from common import *`."""

import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

# pylint: disable=unused-import,wrong-import-position
import tap
from tap import Skip
from vtld import *

daemons = Daemons()


def unchanged(function):
    """A test after which vtld has nothing of it left and still runs."""
    def test():
        try:
            function()
        finally:
            assert daemons.vtld.poll() is None, "vtld ended: " + daemons.log()
        daemons.nothing_leaked()
    return test


def end():
    daemons.stop()


def run(namespace):
    tests = {n: unchanged(f) if n.startswith("test_") and callable(f) else f for n, f in namespace.items()}
    tap.main(tests, end)
