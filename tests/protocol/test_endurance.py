#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thousand VMs one after the other, 64 at once, and monitors that say half of something and sleep: what that costs
vtld, and that it is given back. The figures are printed."""

from common import *

SANITIZED = bool(os.environ.get("VTLD_SANITIZED"))
# A process with a sanitizer starts slowly, and keeps what was freed for a while.
CYCLES = 150 if SANITIZED else 1000
VMS = 64
GROWTH_MAX = 256          # KiB that the broker may have more after all cycles than after the first hundred
DEADLINE, SLACK = 60, 15  # seconds that a connection may have no VM that runs, and until that was noticed
LATENCY_MAX = 2.0         # seconds that one command of another VM may take meanwhile


def rss(pid):
    """Private memory of a process in KiB: heap, stacks and written data."""
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))


def grown(before, after, what):
    if SANITIZED:
        return
    assert after - before <= GROWTH_MAX, "%s: %d KiB, then %d KiB" % (what, before, after)


class Latency:
    """Of commands of a VM that nothing of all this concerns"""

    def __init__(self, client):
        self.client, self.worst, self.n = client, 0, 0

    def look(self):
        begin = time.monotonic()
        self.client.ok(PAUSE)
        self.client.ok(CONTINUE)
        self.worst = max(self.worst, time.monotonic() - begin)
        self.n += 2

    def check(self):
        assert self.worst < LATENCY_MAX, "a command took %.2f s" % self.worst
        return "%d commands of another VM, the slowest took %.1f ms" % (self.n, 1e3 * self.worst)


def half_header(c):
    """A message of which the first half of the header has come."""
    c.send_raw(HEADER.pack(1, VERSION, HEADER.size + VERSION_BODY.size, 0, 0)[:8])


def half_message(c):
    """A header that says more than there is."""
    c.send_raw(HEADER.pack(1, VERSION, HEADER.size + VERSION_BODY.size, 0, 0))


def silence(_):
    pass


def version_only(c):
    c.version()


def half_attached(c):
    """Memory and all, and one of two VPs."""
    vm = Vm(vps=2, name="asleep")
    c.version()
    c.attach(vm)
    c.ok(VP, VP_BODY.pack(0, 0), [vm.kicks[0][1]])
    vm.close()


# Those that are no message end their connection at once.
AT_ONCE = (half_header, half_message)
LATER = (silence, version_only, half_attached)


def attach_and_leave(n):
    """One VM; half of them are detached, the other half's monitor just ends."""
    vm = Vm(name="vm-%d" % n)
    with daemons.client() as c:
        _, pid = c.bring_up(vm)
        if n % 2:
            c.ok(DETACH)
    vm.close()
    return pid


def test_a_thousand_vms_while_others_sleep():
    need_vm()
    vm = Vm(name="awake")
    sleepers = []
    with daemons.client() as c:
        c.bring_up(vm)
        latency = Latency(c)
        began = time.monotonic()
        for way in LATER * 8:
            sleepers.append(daemons.client())
            way(sleepers[-1])
        for way in AT_ONCE:
            with daemons.client() as broken:
                way(broken)
                assert broken.receive().error == errno.EPROTO and broken.closed(), way.__doc__

        begin = time.monotonic()
        for n in range(CYCLES):
            attach_and_leave(n)
            if n == 99:
                wait_for(lambda: len(daemons.workers()) == 1, "the workers have ended")
                first, first_fds = rss(daemons.vtld.pid), daemons.settled_fd_count()
            if n % 10 == 0:
                latency.look()
        seconds = time.monotonic() - begin
        wait_for(lambda: len(daemons.workers()) == 1, "the workers have ended")
        last, last_fds = rss(daemons.vtld.pid), daemons.settled_fd_count()
        tap.diag("%d VMs attached and detached in %.1f s: %.1f ms each" % (CYCLES, seconds, 1e3 * seconds / CYCLES))
        tap.diag("the broker's memory after 100: %d KiB, after %d: %d KiB" % (first, CYCLES, last))
        tap.diag("its descriptors after 100: %d, after %d: %d" % (first_fds, CYCLES, last_fds))
        tap.diag("meanwhile %d monitors slept, and %s" % (len(sleepers), latency.check()))
        # Sleepers that were ended meanwhile take theirs along; nothing else may be different.
        assert last_fds <= first_fds, "%d descriptors, then %d" % (first_fds, last_fds)
        grown(first, last, "the broker")

        for s in sleepers:
            s.socket.settimeout(max(1, DEADLINE + SLACK - (time.monotonic() - began)))
            assert s.closed(), "who does not start a VM is not kept for ever"
            s.close()
        tap.diag("the last of the sleepers was ended after %.0f s" % (time.monotonic() - began))
        assert time.monotonic() - began > DEADLINE - 1, "but has its time"
        c.ok(PAUSE)
    vm.close()


def test_sixty_four_vms_at_once():
    need_vm()
    vms, clients, pids = [], [], []
    before, before_fds = rss(daemons.vtld.pid), daemons.settled_fd_count()
    try:
        begin = time.monotonic()
        for i in range(VMS):
            vms.append(Vm(name="vm-%d" % i))
            clients.append(daemons.client())
            pids.append(clients[-1].bring_up(vms[-1])[1])
        seconds = time.monotonic() - begin
        workers = sorted(rss(pid) for pid in pids)
        full, full_fds = rss(daemons.vtld.pid), daemons.settled_fd_count()
        tap.diag("%d VMs in %.1f s; the broker has %d KiB and %d descriptors more: %.1f KiB and %.1f for each" % (
            VMS, seconds, full - before, full_fds - before_fds, (full - before) / VMS,
            (full_fds - before_fds) / VMS))
        tap.diag("a worker of one VP has from %d to %d KiB" % (workers[0], workers[-1]))
        with daemons.client() as c:
            c.version()
            extra = Vm(name="one too many")
            c.refused(errno.EUSERS, "as many VMs", ATTACH, extra.payload(), extra.fds())
            extra.close()

        # One of them floods vtld, one's worker dies, one's monitor closes its link: the others go on.
        latency = Latency(clients[5])
        for _ in range(50):
            for _ in range(20):
                clients[0].send(PAUSE)
            latency.look()
            for _ in range(20):
                assert clients[0].receive().command == PAUSE
        os.kill(pids[1], signal.SIGKILL)
        os.close(clients[2].link)
        clients[2].link = -1
        assert clients[1].closed() and clients[2].closed()
        for c in clients[3:]:
            c.ok(PAUSE)
        assert [p for p in pids[3:] if process_state(p) not in ("S", "R")] == []
        tap.diag("while one of them flooded vtld: " + latency.check())
    finally:
        for each in clients + vms:
            each.close()
    wait_for(lambda: not daemons.workers(), "all workers are gone")
    daemons.nothing_leaked()
    after = rss(daemons.vtld.pid)
    tap.diag("afterwards the broker has %d KiB; it had %d" % (after, before))
    # The peak was never reached before: what the allocator keeps of it is no leak when a second time takes no more.
    for i in range(VMS):
        vms[i] = Vm(name="again-%d" % i)
        clients[i] = daemons.client()
        clients[i].bring_up(vms[i])
    again = rss(daemons.vtld.pid)
    for each in clients + vms:
        each.close()
    wait_for(lambda: not daemons.workers(), "all workers are gone again")
    tap.diag("%d VMs once more: at most %d KiB, before it was %d" % (VMS, again, full))
    grown(full, again, "64 VMs again")


run(globals())
