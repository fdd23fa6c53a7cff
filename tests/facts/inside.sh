#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# inside.sh DIRECTORY: rare facts about a VM reach the bus, vtlctl and the log. For the emulated host.
# DIRECTORY holds vtld, vtlctl, vtlrun, run-guest, the guest facts.elf, org.vtld1.conf, tap.sh and
# daemons.sh.

set -u

folder=$1
# shellcheck source=tests/tap.sh
. "$folder/tap.sh"
# shellcheck source=tests/demo/daemons.sh
. "$folder/daemons.sh"

begin_scratch

# Room for some mappings of the VMM and a few protections, not for a thousand.
echo 65530 >/proc/sys/vm/max_map_count
cat >"$scratch/policy.conf" <<END
[match facts]
name = *
allow-vtl1 = yes
cr-intercepts = accept-unenforced
deny-startup = accept-unenforced
strict-execute-pages = 4
reserve-mappings = 64900
END

holds()
{
        grep -q 'holding for' "$scratch/guest.log"
}

finds_nothing_wrong()
{
        holds && ! grep -q '^not ok' "$scratch/guest.log" && return
        diag "$(cat "$scratch/guest.log")"
        return 1
}

# property NAME: its value, as busctl prints it
property()
{
        bus get-property org.vtld1 "$partition" org.vtld1.Partition "$1" 2>&1
}

# is_property NAME VALUE
is_property()
{
        value=$(property "$1")
        [ "$value" = "$2" ] && return
        diag "$1 is $value, not $2"
        return 1
}

# number NAME: a property that is one
number()
{
        property "$1" | sed 's/^[a-z]* //'
}

# shown FILE TEXT
shown()
{
        grep -q -e "$2" "$scratch/$1" && return
        diag "not in $1: $2"
        diag "$(tail -n 30 "$scratch/$1")"
        return 1
}

mappings_are_counted()
{
        used=$(number Mappings) max=$(number MappingsMax)
        diag "mappings: $used of at most $max"
        [ "$used" -gt 2 ] && [ "$used" -lt "$max" ] && [ "$max" -lt 1020 ]
}

plan 20

start_bus "$scratch" "$folder/org.vtld1.conf" || diag "$(cat "$scratch/dbus.log")"
check "vtld starts" start_vtld "$scratch" "$folder/vtld"
"$folder/vtlctl" --bus="$address" monitor >"$scratch/monitor" 2>&1 &
monitor=$!
wait_until 20 $monitor grep -q Listening "$scratch/monitor"

"$folder/vtlrun" --attach "$scratch/attach.sock" --name facts --vcpus 2 --memory 64 --timeout 200 \
        --append "hold=150" "$folder/facts.elf" </dev/null >"$scratch/guest.log" 2>&1 &
guest=$!
check "the guest has done it all" wait_until 90 $guest holds
check "and found nothing wrong" finds_nothing_wrong
partition=$(bus --list tree org.vtld1 | grep '^/org/vtld1/partition/[^/]*$')

check "what is accepted is named" is_property Unenforced \
        'as 4 "cpuid-intercept" "port-intercept" "deny-startup" "execute"'
check "so are intercepts of registers" is_property UnenforcedCrIntercepts 'as 2 "cr4-write" "gdtr-write"'
check "the views' mappings are counted" mappings_are_counted
check "the refused call is" is_property ProtectionsRefused 't 1'
check "pages in strict mode are" is_property StrictPages 't 4'
check "and the access that was let through" is_property StrictSteps 't 1'
check "crashes are counted" is_property Crashes 'u 2'
check "the last was VTL1's" is_property CrashVtl 'u 1'
check "of which one number is shown" is_property CrashParameters 'at 1 8192'

check "signal: no mappings left" shown monitor 'no mappings are left for what VTL1 protects  Vp=0  Mappings='
check "signal: started over" shown monitor 'violation of what VTL1 forbids  Gpa=0x9000  Access=startup  Vp=1'
check "signal: VTL0 has crashed" shown monitor 'has crashed  Vtl=0  Code=0x1000  Vp=0'
check "signal: VTL1 has crashed" shown monitor 'has crashed  Vtl=1  Code=0x2000  Vp=0'
check "log: no mappings left" shown vtld.log 'would need more mappings than there are: [0-9]* of [0-9]* are in use'
check "log: started over" shown vtld.log 'VTL0 of VP 1 was started over at 0x9000, which VTL1 had denied'
check "log: crashed" shown vtld.log 'VTL1 reports that it has crashed: 0x2000'
"$folder/vtlctl" --bus="$address" status facts >"$scratch/status" 2>&1
check "vtlctl status" shown status \
        'Not enforced: cpuid-intercept, port-intercept, deny-startup, execute, cr4-write, gdtr-write'
end_process "$guest"
guest=''
end_process $monitor

finish
