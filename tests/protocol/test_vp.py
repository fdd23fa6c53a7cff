#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VP: one kick pipe per VP."""

from common import *


def with_vm(vps, function):
    vm = Vm(vps)
    with daemons.client() as c:
        c.version()
        c.attach(vm)
        function(c, vm)
    vm.close()


def test_vps_in_any_order():
    def body(c, vm):
        for i in 2, 0, 1:
            c.ok(VP, VP_BODY.pack(i, 0), [vm.kicks[i][1]])
        c.start()
    with_vm(3, body)


def test_the_same_vp_twice():
    def body(c, vm):
        c.ok(VP, VP_BODY.pack(1, 0), [vm.kicks[1][1]])
        c.refused(errno.EEXIST, "added already", VP, VP_BODY.pack(1, 0), [vm.kicks[1][1]])
    with_vm(2, body)


def test_a_vp_that_there_is_not():
    def body(c, vm):
        for index in 2, 63, 64, 0xFFFFFFFF:
            c.refused(errno.EINVAL, "no VP of this index", VP, VP_BODY.pack(index, 0), [vm.kicks[0][1]])
    with_vm(2, body)


def test_the_reserved_field():
    def body(c, vm):
        c.refused(errno.EINVAL, "reserved", VP, VP_BODY.pack(0, 1), [vm.kicks[0][1]])
    with_vm(1, body)


def test_what_is_no_write_end_of_a_pipe():
    def body(c, vm):
        others = [os.eventfd(0), memfd(4096), os.open("/dev/null", os.O_WRONLY), os.dup(vm.kicks[0][0])]
        a, b = socket.socketpair()
        for fd in others + [a.fileno()]:
            c.refused(errno.EBADF, "write end of a pipe", VP, VP_BODY.pack(0, 0), [fd])
        both = os.open("/proc/self/fd/%d" % vm.kicks[0][0], os.O_RDWR)
        c.refused(errno.EBADF, "write end of a pipe", VP, VP_BODY.pack(0, 0), [both])
        for fd in others + [both]:
            os.close(fd)
        a.close()
        b.close()
    with_vm(1, body)


def test_descriptor_counts():
    def body(c, vm):
        c.refused(errno.EBADF, "number of descriptors", VP, VP_BODY.pack(0, 0))
        c.refused(errno.EBADF, "number of descriptors", VP, VP_BODY.pack(0, 0), [vm.kicks[0][1]] * 2)
    with_vm(1, body)


def test_sizes():
    def body(c, vm):
        for payload in b"", VP_BODY.pack(0, 0)[:-1], VP_BODY.pack(0, 0) + b"\0":
            c.refused(errno.EMSGSIZE, "size", VP, payload, [vm.kicks[0][1]])
    with_vm(1, body)


def test_before_attach():
    vm = Vm()
    with daemons.client() as c:
        c.version()
        c.refused(errno.EBADFD, "no VM is attached", VP, VP_BODY.pack(0, 0), [vm.kicks[0][1]])
    vm.close()


def test_after_start():
    vm = Vm()
    with daemons.client() as c:
        c.bring_up(vm)
        c.refused(errno.EBADFD, "runs", VP, VP_BODY.pack(0, 0), [vm.kicks[0][1]])
    vm.close()


run(globals())
