# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Test Anything Protocol for tests in Python.

A test file is a row of functions named test_*, run in the order of the file by main(). Each is one TAP
line: it passes by returning, fails by raising (use plain assert), is skipped by raising Skip.
"""

import os
import sys
import traceback


class Skip(Exception):
    """Something that the test needs is not here; the text says what."""


def diag(text):
    for line in str(text).rstrip("\n").split("\n"):
        print("# " + line)


def skip_all(reason):
    print("1..0 # SKIP " + reason)
    sys.exit(0)


def main(namespace, cleanup=None):
    """Runs the tests of a module: main(globals()). @cleanup runs after the last one."""
    only = sys.argv[1:]
    tests = [(n, f) for n, f in namespace.items() if n.startswith("test_") and callable(f)]
    if only:
        tests = [(n, f) for n, f in tests if n in only]
    print("1..%d" % len(tests), flush=True)
    failed = 0
    for number, (name, function) in enumerate(tests, 1):
        words = name[len("test_"):].replace("_", " ")
        try:
            function()
        except Skip as e:
            print("ok %d - %s # SKIP %s" % (number, words, e), flush=True)
        except Exception:
            failed += 1
            print("not ok %d - %s" % (number, words), flush=True)
            diag(traceback.format_exc())
        else:
            print("ok %d - %s" % (number, words), flush=True)
    if cleanup:
        cleanup()
    sys.stdout.flush()
    os._exit(1 if failed else 0)
