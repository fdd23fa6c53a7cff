#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# inside.sh DIRECTORY: what the kernel log of a stock Linux says when it is a guest with trust levels,
# and that it says nothing worse than without them. For the emulated host. DIRECTORY holds vtld,
# vtlrun, org.vtld1.conf, the kernel vmlinuz, the initramfs of mkinitramfs.sh --l2, tap.sh, daemons.sh.

set -u

folder=$1
# shellcheck source=tests/tap.sh
. "$folder/tap.sh"
# shellcheck source=tests/demo/daemons.sh
. "$folder/daemons.sh"

scratch=$(mktemp -d)
trap 'end_daemons; rm -rf "$scratch"' EXIT
trap 'exit 143' HUP INT TERM

# boot NAME OPTION...: the kernel's messages go to $scratch/NAME. It says what is worse than "notice".
boot()
{
        boot_log=$scratch/$1
        shift
        "$folder/vtlrun" --timeout 150 --memory 256 --vcpus 2 --initrd "$folder/initramfs" \
                --append "console=ttyS0 loglevel=5" "$@" "$folder/vmlinuz" </dev/null 2>&1 |
                tr -d '\r' >"$boot_log"
        # The pipe's status is that of tr; the guest's own last words are enough.
        grep -q '^l2: init done$' "$boot_log"
}

# troubles NAME: each complaint of the kernel about itself, without what differs from boot to boot.
# One about time says how busy this machine is.
troubles()
{
        sed -n -e 's/^\[[^]]*\] //' -e '/soft lockup\|clocksource-watchdog/d' \
                -e '/WARNING:\|BUG:\|Oops\|unchecked MSR\|general protection\|invalid opcode\|Call Trace/p' \
                "$scratch/$1" | sed -e 's/CPU: [0-9]* PID: [0-9]* //' -e 's/0x[0-9a-f]*//g' | sort -u
}

# says NAME TEXT
says()
{
        grep -q -e "$2" "$scratch/$1" && return
        diag "nothing matches '$2' in:"
        diag "$(grep '^l2:' "$scratch/$1" || tail -n 20 "$scratch/$1")"
        return 1
}

# The HV_PARTITION_PRIVILEGE_MASK as Linux prints it: low, then high; AccessVsm is bit 48.
has_access_vsm()
{
        high=$(sed -n 's/.*Hyper-V: privilege flags low 0x[0-9a-f]*, high \(0x[0-9a-f]*\).*/\1/p' \
                "$scratch/$1" | head -n 1)
        [ -n "$high" ] && [ $((high & 0x10000)) -ne 0 ]
}

served_by_worker()
{
        says log 'policy "linux" allows VTL1, worker' && says log 'is gone$'
}

plan 11

check "without trust levels Linux boots to its init" boot plain --plain
check "and finds no Hyper-V" test "$(grep -c 'Hypervisor detected: Microsoft' "$scratch/plain")" -eq 0
diag "its kernel complains: $(troubles plain | tr '\n' ';')"

start_bus "$scratch" "$folder/org.vtld1.conf" || diag "$(cat "$scratch/dbus.log")"
printf '[match linux]\nname = linux\nallow-vtl1 = yes\n' >"$scratch/policy.conf"
check "vtld starts" start_vtld "$scratch" "$folder/vtld"
check "with vtld Linux boots to its init" \
        boot daemon --attach "$scratch/attach.sock" --name linux
check "and finds Hyper-V" says daemon 'Hypervisor detected: Microsoft Hyper-V$'
check "and its privileges, AccessVsm among them" has_access_vsm daemon
check "and runs on it" says daemon 'Booting paravirtualized kernel on Hyper-V$'
check "its clock is the reference TSC page" says daemon 'clocksource hyperv_clocksource_tsc_page$'
check "its second processor is on line" says daemon 'online cpus 0-1$'
is "$(troubles daemon)" "$(troubles plain)" "its kernel complains about nothing that vtld does"
end_daemons
cp "$scratch/vtld.log" "$scratch/log"
check "vtld saw it come and go" served_by_worker

finish
