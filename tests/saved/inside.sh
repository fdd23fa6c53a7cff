#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# inside.sh DIRECTORY: machines that are saved and restored, with vtld as their engine. For the
# emulated host. DIRECTORY holds vtld, vtlrun, run-saved, the guests saved.elf and demo.elf,
# org.vtld1.conf, tap.sh and daemons.sh.

set -u

folder=$1
# shellcheck source=tests/tap.sh
. "$folder/tap.sh"
# shellcheck source=tests/demo/daemons.sh
. "$folder/daemons.sh"

begin_scratch

# begin LOG OPTION...: in the background, as $guest
begin()
{
        log=$1
        shift
        "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 100 "$@" </dev/null >"$log" 2>&1 &
        guest=$!
}

vtlrun()
{
        "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 100 "$@" </dev/null
}

# run_saved OPTION...: saved.elf checks by itself what is there after it was restored
run_saved()
{
        sh "$folder/run-saved" "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 100 "$@" \
                "$folder/saved.elf" >"$scratch/guest.log" 2>&1 && return
        diag "$(cat "$scratch/guest.log")"
        return 1
}

# refused FILE TEXT OPTION...: status 65, and says why
refused()
{
        file=$1 text=$2
        shift 2
        vtlrun "$@" --restore "$file" >"$scratch/refused.log" 2>&1
        [ $? = 65 ] && grep -q -e "$text" "$scratch/refused.log" && return
        diag "$(tail -n 5 "$scratch/refused.log")"
        return 1
}

# cut_refused FILE: wherever it ends too early
cut_refused()
{
        size=$(wc -c <"$1") || return
        for n in 0 7 40 $((size / 50)) $((size / 3)) $((size - 1)); do
                head -c "$n" "$1" >"$scratch/cut"
                refused "$scratch/cut" 'not a saved machine, or a damaged one' || return
        done
}

# has_ended_with STATUS PID
has_ended_with()
{
        wait "$2"
        [ $? = "$1" ]
}

holds()
{
        grep -q 'holding for' "$scratch/demo.log"
}

# partition PROPERTY: of the only one there is
partition()
{
        path=$(bus tree --list org.vtld1 2>/dev/null | grep '/partition/[^/]*$' | head -n 1)
        bus get-property org.vtld1 "$path" org.vtld1.Partition "$1" 2>/dev/null
}

enabled_again()
{
        [ "$(partition EnabledVtls)" = "u 3" ] && [ "$(partition ProtectedPages)" != "t 0" ]
}

plan 13

start_bus "$scratch" "$folder/org.vtld1.conf" || diag "$(cat "$scratch/dbus.log")"
printf '[match all]\nname = *\nallow-vtl1 = yes\n' >"$scratch/policy.conf"
check "vtld starts" start_vtld "$scratch" "$folder/vtld"
check "a machine is saved and goes on with another worker" run_saved --append fpu=1
check "one of two processors" run_saved --vcpus 2 --append fpu=1

# ---- At any time ----

begin "$scratch/demo.log" --save "$scratch/saved" --append "precise=1 hold=6" "$folder/demo.elf"
check "a guest runs" wait_until 60 $guest holds
kill -USR2 $guest
check "a signal saves it" has_ended_with 0 $guest
guest=''
check "into a file" test -s "$scratch/saved"
check "that nobody else can read" test "$(stat -c %a "$scratch/saved")" = 600
begin "$scratch/restored.log" --restore "$scratch/saved"
check "restored it has its levels and protections" wait_until 20 $guest enabled_again
check "and ends as it would have" has_ended_with 1 $guest
guest=''

# ---- Not here ----

check "what is not whole is refused" cut_refused "$scratch/saved"
check "so is another engine's kind of machine" refused "$scratch/saved" 'with trust levels' --plain
printf '[match all]\nname = *\nallow-vtl1 = no\n' >"$scratch/policy.conf"
end_process "$vtld"
check "vtld starts with another policy" start_vtld "$scratch" "$folder/vtld"
check "which refuses the machine its VTL1" refused "$scratch/saved" 'policy does not allow it here'
finish
