#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# inside.sh DIRECTORY: vtlctl map and vtlctl trace of guests with a VTL1. For the emulated host.
# DIRECTORY holds vtld, vtlctl, vtlrun, the guests demo.elf, stress.elf and bench.elf,
# org.vtld1.conf, tap.sh and daemons.sh. What is written goes to $VTLD_OUT, if that is set.

set -u

folder=$1
# shellcheck source=tests/tap.sh
. "$folder/tap.sh"
# shellcheck source=tests/demo/daemons.sh
. "$folder/daemons.sh"

begin_scratch
out=${VTLD_OUT:-$scratch}

vtlctl()
{
        "$folder/vtlctl" --bus="$address" "$@"
}

# start_guest NAME TEXT OPTION...: until the guest says TEXT
start_guest()
{
        started=$1 text=$2
        shift 2
        : >"$scratch/guest.log"
        "$folder/vtlrun" --attach "$scratch/attach.sock" --name "$started" --timeout 200 "$@" \
                </dev/null >"$scratch/guest.log" 2>&1 &
        guest=$!
        wait_until 90 "$guest" grep -q -e "$text" "$scratch/guest.log" && return
        diag "$(cat "$scratch/guest.log")"
        return 1
}

# attached NAME: and its VTL1 is enabled
is_attached()
{
        vtlctl list 2>/dev/null | grep -q " $1 .* 0,1 "
}

end_guest()
{
        end_process "$guest"
        guest=''
}

# shows FILE TEXT...: each on some line of it
shows()
{
        file=$1
        shift
        for expected in "$@"; do
                if ! grep -q -e "$expected" "$file"; then
                        diag "no $expected in:" "$(head -n 30 "$file")"
                        return 1
                fi
        done
}

# fails_with TEXT COMMAND...
fails_with()
{
        expected=$1
        shift
        "$@" >"$scratch/errors" 2>&1 && return 1
        shows "$scratch/errors" "$expected"
}

lacks()
{
        ! grep -q -e "$2" "$1" && return
        diag "$(grep -e "$2" "$1" | head -n 5)"
        return 1
}

# has_ended_well FILE: a trace-event file that is whole
has_ended_well()
{
        [ "$(head -c 1 "$1")" = '{' ] && [ "$(tail -n 1 "$1")" = ']}' ] &&
                [ "$(sed -n '2,$p' "$1" | sed '$d' | grep -c -v '^{"name":".*"pid":1,.*},\{0,1\}$')" -eq 0 ] &&
                [ "$(sed -n '2,$p' "$1" | sed '$d' | grep -c '[^,]$')" -eq 1 ]
}

# slices FILE: how many
slices()
{
        grep -c '"ph":"X"' "$1"
}

# accounts FILE ERRORS: every record is half of a slice, an instant, or was lost
accounts()
{
        lost=$(sed -n 's/^vtlctl: [0-9]* records, \([0-9]*\) lost, 0 impossible$/\1/p' "$2")
        written=$(sed -n 's/^vtlctl: \([0-9]*\) records, .*/\1/p' "$2")
        instants=$(grep '"ph":"i"' "$1" | grep -v -c '"name":"records lost"')
        shown=$(($(slices "$1") * 2 + instants))
        diag "$written records, $lost lost; $(slices "$1") slices and $instants instants"
        [ "$written" -gt 1000 ] || return 1
        [ "$lost" -gt 0 ] || { [ $((shown - written)) -ge -2 ] && [ $((shown - written)) -le 2 ]; }
}

# Of one VP: between two entries of VTL1 is a return. Where records were lost none of it is known.
alternates()
{
        sed -n 's/.*"Kind": "switch", "From": \([01]\), .*/\1/p; s/.*"Kind": "lost".*/lost/p' "$1" |
                awk '$1 == "lost" { last = "" ; next } { if ($1 == last) bad++; last = $1 } END { exit bad > 0 }'
}

# A VP that is interrupted all the while may hardly switch for some hundred records.
trace_switches()
{
        n=0
        while [ "$n" -lt 20 ]; do
                vtlctl trace random --json --vp=1 --count=400 --seconds=10 --output="$out/trace.json" || return
                [ "$(grep -c '"Kind": "switch"' "$out/trace.json")" -lt 20 ] || return 0
                n=$((n + 1))
        done
        diag "hardly a switch in $n traces"
        return 1
}

bench='rounds=40 switch=500'

plan 39

start_bus "$scratch" "$folder/org.vtld1.conf" || diag "$(cat "$scratch/dbus.log")"
printf '[match secret]\nname = secret\nallow-vtl1 = yes\nallow-register-read = yes\n[match all]\nname = *\nallow-vtl1 = yes\n' >"$scratch/policy.conf"
check "vtld starts" start_vtld "$scratch" "$folder/vtld"

# ---- Protections ----

check "a guest with a secret" start_guest secret 'holding for' --append 'hold=150' "$folder/demo.elf"
vtlctl map secret >"$out/map.txt"
check "vtlctl map" test $? -eq 0
check "shows RAM that is open" shows "$out/map.txt" ' RWKU  *everything$'
check "and the secret that is not" shows "$out/map.txt" '  ----  *nothing$'
vtlctl --json map secret >"$out/map.json"
restricted=$(bus get-property org.vtld1 "$(vtlctl --json status secret | sed -n 's/^  "ObjectPath": *"\(.*\)",$/\1/p')" \
        org.vtld1.Partition ProtectedPages | sed 's/t //')
check "as many pages as ProtectedPages says" \
        test "$(awk '$1 != "RWKU" && NF >= 5 && $2 ~ /^[0-9]+$/ { n += $2 } END { print n + 0 }' "$out/map.txt")" = "$restricted"
check "in JSON, too" shows "$out/map.json" '"Rights": *"----"'
check "as a picture" vtlctl map secret --svg="$out/map.svg"
check "which is whole" test "$(tail -n 1 "$out/map.svg")" = '</svg>'
check "and shows both" shows "$out/map.svg" ': nothing</title>' ': everything</title>'

# ---- Registers ----

vtlctl registers secret >"$out/registers.txt"
check "vtlctl registers" test $? -eq 0
check "shows where VTL0 is" shows "$out/registers.txt" '^R14 .* R15 ' '^Rip  *[0-9a-f]\{16\} ' '^Cs .* base 0000000000000000 '
vtlctl registers secret --vtl=1 >"$out/registers1.txt"
check "and VTL1" test $? -eq 0
check "which is elsewhere" test "$(grep '^Rip' "$out/registers.txt")" != "$(grep '^Rip' "$out/registers1.txt")"
vtlctl --json registers secret >"$out/registers.json"
check "in JSON, too" shows "$out/registers.json" '"Selector": *"0x' '"Rip": *"0x'
check "but not of a VP that there is not" fails_with "no such virtual processor" vtlctl registers secret --vp=7
check "the guest goes on" kill -0 "$guest"
end_guest

# ---- Traces ----

check "a guest that does everything at random" \
        start_guest random . --vcpus 4 --append 'seconds=120' "$folder/stress.elf"
check "it has a VTL1" wait_until 90 "$guest" is_attached random
check "its registers are not for reading: policy does not say so" \
        fails_with 'does not allow to read registers' vtlctl registers random
vtlctl trace random --seconds=8 >"$out/trace.txt" 2>"$scratch/errors"
check "vtlctl trace" test $? -eq 0
check "shows switches by call, return and interrupt" shows "$out/trace.txt" \
        ' 0 -> 1  call' ' 1 -> 0  .*return' ' 0 -> 1  interrupt'
check "by the VMM alone as well" shows "$out/trace.txt" ' by the VMM, RIP'
check "hypercalls with their names" shows "$out/trace.txt" ' hypercall [A-Z][A-Za-z]* (0x[0-9a-f]*): SUCCESS'
check "intercepts and interrupts" shows "$out/trace.txt" ' intercepted [a-z]* of memory 0x' ' gets interrupt 0x'
check "of all VPs" shows "$out/trace.txt" '^[0-9:.]*   [0]  ' '^[0-9:.]*   [1]  ' '^[0-9:.]*   [2]  ' '^[0-9:.]*   [3]  '
check "and nothing that cannot be" lacks "$out/trace.txt" 'cannot be'
check "as JSON, of one VP" trace_switches
check "of no other" lacks "$out/trace.json" '"Vp": [^1]'
check "which enters and leaves VTL1 in turn" alternates "$out/trace.json"
vtlctl trace random --format=perfetto --output="$out/trace.perfetto.json" 2>"$scratch/errors" &
tracer=$!
sleep 4
kill -INT $tracer
wait $tracer
check "for Perfetto, until interrupted" test $? -eq 0
check "the file is whole" has_ended_well "$out/trace.perfetto.json"
check "with slices of VTL1 and instants" test "$(slices "$out/trace.perfetto.json")" -gt 20 -a \
        "$(grep -c '"ph":"i"' "$out/trace.perfetto.json")" -gt 20
end_guest

# ---- The end of a VM, and what a trace costs ----

# Rounds of the fast switch, measured by the guest: first while nobody reads, then while somebody does.
check "a guest that switches as fast as it can" \
        start_guest plain 'bench switch ' --append "$bench" "$folder/bench.elf"
diag "not traced: $(grep 'bench switch ' "$scratch/guest.log")"
end_guest
"$folder/vtlrun" --attach "$scratch/attach.sock" --name traced --timeout 200 --append "$bench" \
        "$folder/bench.elf" </dev/null >"$scratch/guest.log" 2>&1 &
guest=$!
check "another one" wait_until 60 "$guest" is_attached traced
vtlctl trace traced --format=perfetto --output="$scratch/fast.json" 2>"$scratch/errors"
check "a trace ends with its VM" test $? -eq 0
check "and says so" shows "$scratch/errors" 'the VM is gone'
check "its file is whole" has_ended_well "$scratch/fast.json"
check "and has all records, or how many are lost" accounts "$scratch/fast.json" "$scratch/errors"
diag "traced: $(grep 'bench switch ' "$scratch/guest.log")" "$(cat "$scratch/errors")"
guest=''

finish
