# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver (tests/differential/driver.c) as a process that takes cases and gives outcomes."""

import os
import signal
import struct
import subprocess
import tempfile

from outcome import Died

LENGTH = struct.Struct("<I")


class DriverDied(Exception):
    """Over one of the cases of the batch"""

    def __init__(self, status, words):
        super().__init__("status %d%s%s" % (status, ": " if words else "", words))
        self.hung = status == -signal.SIGALRM


class Engine:
    def __init__(self, program, *arguments):
        self.command = [program, *arguments]
        self.process = None
        self.errors = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def _begin(self):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors)

    def end(self):
        if not self.process:
            return
        self.process.stdin.close()
        self.process.stdout.close()
        status = self.process.wait()
        self.process = None
        if status:
            raise DriverDied(status, self._last_words())

    def _last_words(self):
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip().split("\n")
        return " | ".join(words[-30:])

    def _died(self):
        process, self.process = self.process, None
        process.stdout.close()
        try:
            process.stdin.close()
        except OSError:
            pass
        return DriverDied(process.wait(), self._last_words())

    def send(self, cases):
        """Packed cases; outcomes() has to follow. The driver works in the meantime."""
        if not self.process:
            self._begin()
        batch = b"".join(struct.pack("<H", len(case)) + case for case in cases)
        try:
            self.process.stdin.write(LENGTH.pack(len(batch)) + batch)
            self.process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def outcomes(self):
        answer = self.process.stdout.read(LENGTH.size)
        if len(answer) < LENGTH.size:
            raise self._died()
        size = LENGTH.unpack(answer)[0]
        answer = self.process.stdout.read(size)
        if len(answer) < size:
            raise self._died()
        outcomes, at = [], 0
        while at < size:
            length = LENGTH.unpack_from(answer, at)[0]
            at += LENGTH.size
            outcomes.append(answer[at:at + length])
            at += length
        return outcomes

    def run(self, cases):
        self.send(cases)
        return self.outcomes()

    def run_one(self, case):
        """The outcome of one packed case, or Died"""
        try:
            return self.run([case])[0]
        except DriverDied as death:
            return Died(str(death), death.hung)


def output_of(program, *arguments):
    return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def program(name):
    """A driver of the build directory"""
    return os.path.join(os.environ["builddir"], "tests", "differential", name)
