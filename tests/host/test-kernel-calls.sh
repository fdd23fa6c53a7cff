#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test-kernel-calls.sh VTLRUN GUEST: that flushes and interrupts within VTL0 do not leave KVM. GUEST
# makes 2 x 4 x 200 flushes and 200 interrupts, and few others.

set -u

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tap.sh
. "$here/tap.sh"

vtlrun=$1 guest=$2
calls=1800
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# hypercalls yes|no: runs the guest, and sets hypercalls to how many the engine has served
hypercalls()
{
        "$vtlrun" --engine=in-process --stats --vcpus 2 --policy "kernel-hypercalls=$1" --timeout 100 \
                --append 'rounds=200 fpu=1' "$guest" >"$output" 2>&1 </dev/null
        is $? 1 "kernel-hypercalls=$1: what the guest finds"
        grep -E '^not ok|^bail' "$output" | sed 's/^/# /'
        hypercalls=$(sed -n 's/.* hypercalls=\([0-9]*\).*/\1/p' "$output" | awk '{ n += $1 } END { print n + 0 }')
        diag "kernel-hypercalls=$1: $hypercalls hypercalls in userspace"
}

plan 4
hypercalls no
check "all come to the engine" test "$hypercalls" -ge $calls
others=$((hypercalls - calls))
hypercalls yes
check "only the others do" test "$hypercalls" -le "$others"
finish
