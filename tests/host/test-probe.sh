#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test-probe.sh VTLD: what vtld --probe finds on KVM-AMD with nested paging.

set -u

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tap.sh
. "$here/tap.sh"

# has KEY VALUE: in the report
has()
{
        case $report in
        *"\"$1\": $2"*) ;;
        *) diag "$report"; return 1 ;;
        esac
}

report=$("$1" --probe)
status=$?

plan 7
is "$status" 0 "exit status 0"
check "a guest can be served" has can-serve true
check "a forbidden store is a fault" has store '"fault"'
check "a forbidden load is a fault" has load '"fault"'
check "an instruction that KVM emulates exits as MMIO" has emulated-load '"mmio-exit"'
check "faults are precise" has fault-precision '"precise"'
check "KVM offers Hyper-V" has hyperv true
finish
