# SPDX-License-Identifier: LGPL-2.1-or-later
"""How other processes are."""

import os


def process_state(pid):
    """One letter as in ps, "" when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def process_ended(pid):
    """All its threads are over, and with them its descriptors: the first one may be it long before."""
    try:
        return process_state(pid) in ("", "Z") and len(os.listdir("/proc/%d/task" % pid)) <= 1
    except OSError:
        return True
