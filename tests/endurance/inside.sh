#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# inside.sh DIRECTORY: real VMs come and go, many at once, and some of their monitors stop. What that
# costs vtld is printed, and has to be given back. For the emulated host. DIRECTORY holds vtld,
# vtlrun, run-guest, the guests enable.elf, measure.elf and stress.elf, org.vtld1.conf, tap.sh and
# daemons.sh.

set -u

folder=$1
# shellcheck source=tests/tap.sh
. "$folder/tap.sh"
# shellcheck source=tests/demo/daemons.sh
. "$folder/daemons.sh"

begin_scratch

cycles=25
at_once=8
growth_max=256  # KiB

# memory_of PID: private memory in KiB
memory_of()
{
        sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status"
}

descriptors_of()
{
        set -- "/proc/$1/fd"/*
        echo $#
}

partitions()
{
        bus get-property org.vtld1 /org/vtld1 org.vtld1.Manager Partitions 2>/dev/null | sed 's/^u //'
}

are_attached()
{
        [ "$(partitions)" = "$1" ]
}

workers_are()
{
        [ "$(wc -w <"/proc/$vtld/task/$vtld/children")" -eq "$1" ]
}

# settles N: as many VMs, and as many workers
settles()
{
        wait_until 20 "$vtld" are_attached "$1" && wait_until 20 "$vtld" workers_are "$1"
}

run_guest()
{
        sh "$folder/run-guest" "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 60 --memory 64 \
                --name "$1" --append precise=1 "$folder/enable.elf" >"$scratch/guest.log" 2>&1 && return
        diag "$(cat "$scratch/guest.log")"
        return 1
}

run_guests()
{
        n=0
        while [ "$n" -lt "$1" ]; do
                run_guest "vm-$n" || return
                n=$((n + 1))
        done
}

# hold_guest NAME: its process is in $guest
hold_guest()
{
        "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 250 --memory 64 --name "$1" \
                --append hold=200 "$folder/measure.elf" </dev/null >"$scratch/$1.log" 2>&1 &
        guest=$!
}

holds()
{
        grep -q -s 'holding for' "$scratch/$1.log"
}

hold_guests()
{
        held=''
        n=0
        while [ "$n" -lt "$at_once" ]; do
                hold_guest "held-$n"
                held="$held $guest"
                wait_until 60 "$guest" holds "held-$n" || return
                kill -STOP "$guest"
                n=$((n + 1))
        done
        guest=''
}

end_guests()
{
        for process in $held; do
                kill -KILL "$process" 2>/dev/null
                wait "$process" 2>/dev/null
        done
}

# not_more BEFORE AFTER BOUND WHAT
not_more()
{
        [ "$2" -le $(($1 + $3)) ] && return
        diag "$4: $1, then $2"
        return 1
}

plan 16

# What the kernel gathers into huge pages by and by is more memory, and nobody's leak.
echo never >/sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null

start_bus "$scratch" "$folder/org.vtld1.conf" || diag "$(cat "$scratch/dbus.log")"
printf '[match all]\nname = *\nallow-vtl1 = yes\n' >"$scratch/policy.conf"
# A look for VINA takes much longer here than it is until the next one then: VTL1 of a VP that wants VINA
# must have some time of its own all the same.
check "vtld starts" start_vtld "$scratch" "$folder/vtld" --vina-poll-us=20

# ---- One after the other ----

check "VMs come and go" run_guests 5
check "and leave nothing" settles 0
memory=$(memory_of "$vtld") descriptors=$(descriptors_of "$vtld") begin=$(date +%s)
check "$cycles more do" run_guests $cycles
check "and leave nothing" settles 0
diag "$cycles VMs attached and detached in $(($(date +%s) - begin)) s; the broker's memory: $memory KiB, then $(memory_of "$vtld") KiB;" \
        "descriptors: $descriptors, then $(descriptors_of "$vtld")"
check "no memory of the broker" not_more "$memory" "$(memory_of "$vtld")" $growth_max "memory in KiB"
check "no descriptor of it" not_more "$descriptors" "$(descriptors_of "$vtld")" 0 "descriptors"

# ---- At once ----

# All of their monitors are stopped, with their guests in the middle of something.
check "$at_once VMs at once" hold_guests
diag "$(partitions) VMs: the broker has $(memory_of "$vtld") KiB and $(descriptors_of "$vtld") descriptors"
begin=$(date +%s)
check "while their monitors are stopped another VM runs" run_guest other
diag "it took $(($(date +%s) - begin)) s"
check "and the bus answers" are_attached $at_once
end_guests
check "all of them end" settles 0
check "no descriptor is left" not_more "$descriptors" "$(descriptors_of "$vtld")" 0 "descriptors"
check "vtld still serves" run_guest last

# ---- A minute of everything ----

# sample: memory in KiB of worker, broker and monitor while the guest runs
sample()
{
        memory_of "$worker" && memory_of "$vtld" && memory_of "$guest"
}

"$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 250 --vcpus 4 --name stress \
        --append 'seconds=60 fpu=1' "$folder/stress.elf" </dev/null >"$scratch/stress.log" 2>&1 &
guest=$!
check "a guest that does everything at random for a minute" wait_until 60 "$guest" workers_are 1
worker=$(cat "/proc/$vtld/task/$vtld/children")
worker=${worker%% *}
sleep 15
early=$(sample | tr '\n' ' ')
sleep 38
late=$(sample | tr '\n' ' ')
wait "$guest"
check "all that it checks is right" test $? -eq 1
diag "$(grep -c '^ok' "$scratch/stress.log") checks; memory of worker, broker and monitor in KiB after 15 s: $early, after 53 s: $late"
flat=yes
for n in 1 2 3; do
        not_more "$(echo "$early" | cut -d ' ' -f $n)" "$(echo "$late" | cut -d ' ' -f $n)" 128 \
                "memory of process $n of the three" || flat=no
done
check "its worker, broker and monitor have no more memory at its end" test $flat = yes
# What it says beside its checks says which interrupt was lost.
! grep -q '^not ok' "$scratch/stress.log" || diag "$(grep -v '^ok' "$scratch/stress.log")"

finish
