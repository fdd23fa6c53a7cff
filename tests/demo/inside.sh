#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The demonstration itself, on a machine whose KVM is usable: ./demo runs it here or, with busybox
# as its shell, in the emulated host.  Everything that it starts, it ends.

set -u

usage()
{
        cat <<'END_OF_USAGE'
Usage: tests/demo/inside.sh [--verbose] [--colour] DIRECTORY

DIRECTORY holds vtld, vtlrun, vtlctl, demo.elf, and org.vtld1.conf, the bus policy.
END_OF_USAGE
}

verbose=no
bold='' dim='' green='' red='' cyan='' plain=''
while [ $# -gt 0 ]; do
        case $1 in
        --verbose) verbose=yes ;;
        --colour)
                bold=$(printf '\033[1m') dim=$(printf '\033[2m') green=$(printf '\033[32m')
                red=$(printf '\033[31m') cyan=$(printf '\033[36m') plain=$(printf '\033[0m')
                ;;
        -h|--help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) break ;;
        esac
        shift
done
[ $# -eq 1 ] || { usage >&2; exit 2; }
programs=$1

name=demo
wait_seconds=90         # for the guest to show all, also where it is emulated twice
hold_seconds=300        # the guest waits that long for our 'q'
end_seconds=20

guest='' reader=''
scratch=$(mktemp -d) || exit 1
console=$scratch/console

# shellcheck source=tests/demo/daemons.sh
. "${0%/*}/daemons.sh"

# Also on the way out after a failure or a signal.
clean_up()
{
        trap '' HUP INT TERM
        [ -z "$guest" ] || end_process "$guest"
        end_daemons
        exec 4>&-
        [ -z "$reader" ] || end_process "$reader"
        rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- What a person sees ----

heading()
{
        printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

indent()
{
        sed 's/^/   /'
}

note()
{
        printf '   %s%s%s\n' "$dim" "$*" "$plain"
}

# Nothing more can be shown; FILE says why.
give_up()
{
        printf '\n%sdemo: %s%s\n' "$red" "$1" "$plain"
        [ ! -s "${2:-/nonexistent}" ] || tail -n 20 "$2" | indent
        exit 1
}

failures=0
checks=0

# check TEXT COMMAND...
check()
{
        text=$1
        shift
        checks=$((checks + 1))
        if "$@"; then
                printf '   %sok%s    %s\n' "$green" "$plain" "$text"
        else
                printf '   %sNO%s    %s\n' "$red" "$plain" "$text"
                failures=$((failures + 1))
                missing="${missing:+$missing; }$text"
        fi
}

# Prints the guest's console as it comes, and keeps it.
show_console()
{
        : >"$console"
        while IFS= read -r line; do
                line=${line%"$(printf '\r')"}
                case $line in
                VTL1:*) colour=$cyan ;;
                demo:*) colour=$bold ;;
                *) colour='' ;;
                esac
                printf '   %s|%s %s%s%s\n' "$dim" "$plain" "$colour" "$line" "${colour:+$plain}"
                printf '%s\n' "$line" >>"$console"
        done
}

says()
{
        grep -q "$@" "$console" 2>/dev/null
}

# ---- Daemons ----

start_daemons()
{
        start_bus "$scratch" "$programs/org.vtld1.conf" ||
                give_up "dbus-daemon does not start" "$scratch/dbus.log"
        printf '[match demonstration]\nname = %s\nallow-vtl1 = yes\n' "$name" >"$scratch/policy.conf"
        start_vtld "$scratch" "$programs/vtld" || give_up "vtld does not start" "$scratch/vtld.log"
        note "dbus-daemon with the policy of data/org.vtld1.conf; vtld, pid $vtld, allows VTL1 to \"$name\""
}

# ---- The guest ----

start_guest()
{
        mkfifo "$scratch/input" "$scratch/output" || exit 1
        # Both ends: opening waits for nobody, and the guest never reads an end of file.
        exec 4<>"$scratch/input"
        show_console <"$scratch/output" 4>&- &
        reader=$!
        "$programs/vtlrun" --attach "$scratch/attach.sock" --name "$name" \
                --timeout $((hold_seconds + 60)) --append "precise=$precise hold=$hold_seconds" \
                "$programs/demo.elf" <"$scratch/input" >"$scratch/output" 2>"$scratch/vtlrun.log" 4>&- &
        guest=$!
        wait_until $wait_seconds $guest says 'holding for' && return

        # Its last words are on their way.
        is_alive $guest || wait_until 5 $reader has_ended $reader
        give_up "the guest did not come to the point where it holds" "$scratch/vtlrun.log"
}

end_guest()
{
        printf q >&4
        if ! wait_until $end_seconds $guest has_ended $guest; then
                note "the guest does not end on 'q'"
        fi
        end_process "$guest"
        guest_status=$?
        guest=
        wait_until 5 $reader has_ended $reader
        end_process "$reader"
        reader=
}

# ---- The bus ----

# value OBJECT INTERFACE PROPERTY: without its type, without quotes
value()
{
        bus get-property org.vtld1 "$1" "org.vtld1.$2" "$3" 2>/dev/null |
                sed -e 's/^[a-z]* //' -e 's/^"\(.*\)"$/\1/'
}

# Bit N is VTL N.
vtl_names()
{
        case $1 in
        0) echo none ;;
        1) echo VTL0 ;;
        2) echo VTL1 ;;
        3) echo "VTL0, VTL1" ;;
        *) echo "?" ;;
        esac
}

# show_properties OBJECT INTERFACE PROPERTY...
show_properties()
{
        object=$1 interface=$2
        shift 2
        for property in "$@"; do
                v=$(value "$object" "$interface" "$property")
                case $property in
                EnabledVtls|SuspendedVtls|PendingEventVtls) v="$v  (bits: $(vtl_names "$v"))" ;;
                Intercepts) v="$v  (accesses of VTL0 that went to VTL1 instead)" ;;
                FastSwitches) v="$v  (done in the VMM's own process)" ;;
                InterruptEntries) v="$v  (VTL1 entered without a call)" ;;
                esac
                printf '   %-22s %s\n' "$property" "$v"
        done
}

all_properties()
{
        bus introspect org.vtld1 "$1" "org.vtld1.$2" | awk '$2 == "property" { print substr($1, 2) }'
}

# show_object TITLE OBJECT INTERFACE PROPERTY...: these, or with --verbose all
show_object()
{
        heading "$1"
        note "$2"
        object=$2 interface=$3
        shift 3
        if [ $verbose = yes ]; then
                # Names of properties are single words.
                # shellcheck disable=SC2046
                set -- $(all_properties "$object" "$interface")
        fi
        show_properties "$object" "$interface" "$@"
}

# Run as an administrator would, on our bus.
show_vtlctl()
{
        [ -x "$programs/vtlctl" ] || return 0
        vtlctl_failed=
        for words in list "status $name"; do
                heading "vtlctl $words"
                # shellcheck disable=SC2086
                DBUS_SYSTEM_BUS_ADDRESS=$address "$programs/vtlctl" $words >"$scratch/vtlctl" 2>&1 ||
                        vtlctl_failed="$vtlctl_failed $words"
                grep -q "$name" "$scratch/vtlctl" || vtlctl_failed="$vtlctl_failed $words"
                indent <"$scratch/vtlctl"
        done
}

show_bus()
{
        heading "busctl tree org.vtld1, while the guest is alive"
        bus tree org.vtld1 | tee "$scratch/tree" | indent

        paths=$(bus --list tree org.vtld1)
        partition=$(echo "$paths" | grep '^/org/vtld1/partition/[^/]*$' | head -n 1)
        vps=$(echo "$paths" | grep "^$partition/vp/[0-9]*\$")
        [ -n "$partition" ] || give_up "the guest is not on the bus" "$scratch/vtld.log"

        show_object "The partition: org.vtld1.Partition" "$partition" Partition \
                Name Uuid State VpCount PolicyName Vtl1Allowed EnabledVtls ProtectionEnabled \
                ProtectedPages Intercepts Denied Backend FaultPrecision ExecuteEnforcement \
                DmaEnforcement StartupDenial
        for vp in $vps; do
                show_object "VP ${vp##*/}: org.vtld1.VirtualProcessor" "$vp" VirtualProcessor \
                        EnabledVtls ActiveVtl VtlCalls VtlReturns InterruptEntries FastSwitches Hypercalls Intercepts
        done
        first_vp=$(echo "$vps" | head -n 1)

        enabled=$(value "$partition" Partition EnabledVtls)
        vp_enabled=$(value "$first_vp" VirtualProcessor EnabledVtls)
        state=$(value "$partition" Partition State)
        protected=$(value "$partition" Partition ProtectedPages)
        intercepts=$(value "$partition" Partition Intercepts)
        calls=$(value "$first_vp" VirtualProcessor VtlCalls)
        returns=$(value "$first_vp" VirtualProcessor VtlReturns)
}

# ---- The checks ----

# at_least NUMBER LIMIT: what is no number is not
at_least()
{
        case $1 in
        ''|*[!0-9]*) return 1 ;;
        esac
        [ "$1" -ge "$2" ]
}

# The guest prints count() and a checksum that VTL0 knows how to verify: six different ones.
secure_calls_are_right()
{
        [ "$(sed -n 's/^VTL0: secure calls: count() = \([0-9]*\), .*/\1/p' "$console" | tr '\n' ' ')" = \
                '1 2 3 4 5 6 ' ] &&
                [ "$(sed -n 's/^VTL0: secure calls: .* = 0x\([0-9a-f]\{16\}\)$/\1/p' "$console" |
                        sort -u | wc -l)" -eq 6 ] &&
                ! says 'FAILED: the c'
}

# served WHAT: of "VTL0: VTL1 served N calls and M intercepts"
served()
{
        sed -n "s/^VTL0: VTL1 served.* \([0-9]*\) $1.*/\1/p" "$console"
}

partition_is_gone()
{
        ! bus --list tree org.vtld1 2>/dev/null | grep -q '^/org/vtld1/partition/.'
}

run_checks()
{
        served_calls=$(served calls)
        served_intercepts=$(served intercepts)

        heading "What was shown"
        check "the guest enabled VTL1 for its partition and its VP" \
                says 'EnableVpVtl(1): VTL1 enabled on this VP'
        check "VTL1 ran: its own stack, descriptor tables and page tables" says '^VTL1: entered by VTL call'
        check "secure calls gave the right results" secure_calls_are_right
        check "VTL0 read VTL1's secret and got poison" says '^VTL0: read the secret: .*, poison$'
        check "VTL0's write was dropped: the secret is unchanged" \
                says '^VTL0: VTL1 says its secret is unchanged'
        check "the guest found nothing wrong" says '^demo: all as expected$'
        check "bus: the partition was running with VTL0 and VTL1 enabled" \
                test "$state $enabled $vp_enabled" = "running 3 3"
        check "bus: VtlCalls $calls, VtlReturns $returns; VTL1 counted ${served_calls:-no} calls" \
                calls_agree
        check "bus: Intercepts $intercepts, ProtectedPages $protected; VTL1 counted ${served_intercepts:-no} intercepts" \
                protection_agrees
        [ ! -x "$programs/vtlctl" ] || check "vtlctl showed the same bus" test -z "$vtlctl_failed"
        check "the guest ended by itself: exit status $guest_status" test "$guest_status" -eq 1
        check "bus: then its objects went away" wait_until 5 "$vtld" partition_is_gone
        check "vtld still serves, and ends when asked to" vtld_ends
}

calls_agree()
{
        at_least "$served_calls" 1 && at_least "$calls" "$served_calls" && at_least "$returns" "$served_calls"
}

protection_agrees()
{
        at_least "$served_intercepts" 2 && at_least "$intercepts" 2 && at_least "$protected" 1
}

vtld_ends()
{
        vtld_answers || return 1
        end_process "$vtld"
        vtld_status=$?
        vtld=
        [ $vtld_status -eq 0 ]
}

# ---- One after the other ----

"$programs/vtld" --probe >"$scratch/probe" 2>"$scratch/probe.log" || :
grep -q '"can-serve": *true' "$scratch/probe" || {
        cat "$scratch/probe.log" >>"$scratch/probe"
        give_up "vtld cannot serve a guest on this KVM" "$scratch/probe"
}

heading "Host"
precise=0
if grep -q '"fault-precision": *"precise"' "$scratch/probe"; then
        precise=1
        note "KVM reports forbidden accesses precisely: every violation can be served"
else
        note "KVM reports forbidden accesses imprecisely on this host (FaultPrecision = imprecise):"
        note "only plain loads and stores (MOV) are shown; --host=emulated has a precise KVM"
fi
start_daemons

heading "The guest's console (vtlrun --attach)"
start_guest
show_bus
show_vtlctl

heading "The guest's console: q ends it"
end_guest
run_checks

echo
if [ $failures -gt 0 ]; then
        printf '%sdemo: %d of %d checks failed: %s%s\n' "$red" $failures $checks "$missing" "$plain"
        [ ! -s "$scratch/vtlrun.log" ] || { echo "vtlrun said:"; indent <"$scratch/vtlrun.log"; }
        [ ! -s "$scratch/vtld.log" ] || { echo "vtld said:"; tail -n 20 "$scratch/vtld.log" | indent; }
        exit 1
fi
printf '%sdemo: all %d checks passed%s\n' "$green" $checks "$plain"
