#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""GetRegisters: who may, and a VMM that does not do its part."""

from common import *


def test_policy_does_not_allow_it():
    with running_vm() as (_, _, path, _):
        answer = error_of("call", "org.vtld1", path, PARTITION, "GetRegisters", "uu", "0", "0")
        assert "Access denied" in answer, answer


def test_a_vmm_that_does_not_come():
    """No thread of this VMM runs a VP: it is asked for five seconds, and the worker serves on."""
    own = Daemons(policy="[match all]\nname=*\nallow-vtl1=yes\nallow-register-read=yes\n")
    with own.client() as client:
        vm = Vm()
        _, pid = client.bring_up(vm)
        path = own.partition_path(vm.uuid)

        def refusal(vp, vtl):
            answer = own.busctl("call", "org.vtld1", path, PARTITION, "GetRegisters", "uu", str(vp), str(vtl), check=False)
            assert answer.returncode != 0, answer
            return answer.stderr

        assert "no such virtual processor" in refusal(1, 0)
        assert "no such VTL" in refusal(0, 2)
        assert "not enabled" in refusal(0, 1)
        begin = time.monotonic()
        assert "too busy" in refusal(0, 0)
        assert 4 < time.monotonic() - begin < 8
        assert own.call(path, PARTITION, "GetProtections", "t", "0")[0], "and it answers"
        os.kill(pid, 0)
    vm.close()
    own.stop()


run(globals())
