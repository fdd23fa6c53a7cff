#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# inside.sh DIRECTORY: VTL1 is measured, and runs only when policy lets it. For the emulated host.
# DIRECTORY holds vtld, vtlctl, vtlrun, run-guest, the guest measure.elf, org.vtld1.conf, tap.sh,
# daemons.sh, and a public key that is not the host's, other.pem.

set -u

folder=$1
# shellcheck source=tests/tap.sh
. "$folder/tap.sh"
# shellcheck source=tests/demo/daemons.sh
. "$folder/daemons.sh"

begin_scratch

mkdir -p "$scratch/policy.d"
cat >"$scratch/vtld.conf" <<END
[vtld]
socket-path = $scratch/attach.sock
policy = $scratch/policy.conf
host-key = $scratch/host-key.pem
measure-limit = 1M
END

# rule NAME [KEY=VALUE]...: for VMs of that name
rule()
{
        printf '[match %s]\nname = %s\n' "$1" "$1"
        shift
        printf '%s\n' allow-vtl1=yes "$@"
}

start()
{
        "$folder/vtld" --config="$scratch/vtld.conf" --bus="$address" >>"$scratch/vtld.log" 2>&1 &
        vtld=$!
        wait_until 20 "$vtld" vtld_answers
}

# run_guest NAME ARGUMENTS: measure.elf checks by itself what it may and may not
run_guest()
{
        sh "$folder/run-guest" "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 60 --name "$1" \
                --append "$2" "$folder/measure.elf" >"$scratch/guest.log" 2>&1 && return
        diag "$(cat "$scratch/guest.log")"
        diag "$(tail -n 10 "$scratch/vtld.log")"
        return 1
}

holds()
{
        grep -q 'holding for' "$scratch/held.log"
}

# hold_guest NAME ARGUMENTS: until let_go
hold_guest()
{
        # Not the words of the guest before
        : >"$scratch/held.log"
        "$folder/vtlrun" --attach "$scratch/attach.sock" --name "$1" --timeout 200 --append "$2 hold=150" \
                "$folder/measure.elf" </dev/null >"$scratch/held.log" 2>&1 &
        guest=$!
        wait_until 90 "$guest" holds && return
        diag "$(cat "$scratch/held.log")"
        return 1
}

let_go()
{
        end_process "$guest"
        guest=''
}

vtlctl()
{
        "$folder/vtlctl" --bus="$address" "$@"
}

# status_has TEXT: of the guest that is held
status_has()
{
        vtlctl status >"$scratch/status" 2>&1
        grep -q -e "$1" "$scratch/status" && return
        diag "$(cat "$scratch/status")"
        return 1
}

# logged TEXT
logged()
{
        grep -q -e "$1" "$scratch/vtld.log" && return
        diag "$(tail -n 20 "$scratch/vtld.log")"
        return 1
}

is_generation()
{
        [ "$(bus get-property org.vtld1 /org/vtld1 org.vtld1.Manager PolicyGeneration)" = "u $1" ]
}

verify()
{
        "$folder/vtlctl" quote verify "$@" >"$scratch/verified" 2>&1
}

# refuses TEXT ARGUMENT...: of vtlctl quote verify
refuses()
{
        expected=$1
        shift
        ! verify "$@" && grep -q -e "$expected" "$scratch/verified" && return
        diag "$(cat "$scratch/verified")"
        return 1
}

nonce=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
zeroes=000000000000000000000000000000000000000000000000
quote=$scratch/quote

plan 29

start_bus "$scratch" "$folder/org.vtld1.conf" || diag "$(cat "$scratch/dbus.log")"
rule any >"$scratch/policy.conf"
check "vtld starts, and makes a host key" start
check "which only its owner can read" test "$(stat -c %a "$scratch/host-key.pem")" = 600
check "vtlctl has the public key" vtlctl quote key --output="$scratch/key.pem"

# ---- What runs is measured ----

check "VTL1 runs where nothing is required" hold_guest any ''
check "vtlctl says that it was measured" status_has '^ *Measurement: measured, [0-9a-f]\{96\}$'
digest=$(sed -n 's/^ *Measurement: measured, //p' "$scratch/status")
check "so does the log" logged "VTL1 begins on VP 0, its measurement is $digest"
check "there is a quote" vtlctl quote any --nonce=$nonce --output="$quote"
check "of the log of three events" grep -q '^events 3 lost 0$' "$quote"
let_go

# ---- Without vtld ----

check "the quote verifies" verify --key="$scratch/key.pem" --nonce=$nonce "$quote"
check "and says what was measured" grep -q "VTL1 measured, $digest" "$scratch/verified"
check "with another nonce it is refused" \
        refuses 'the nonce is another one' --key="$scratch/key.pem" --nonce="00$nonce" "$quote"
check "with another key it is refused" \
        refuses 'signed with another key' --key="$folder/other.pem" --nonce=$nonce "$quote"
sed '/^event vp-enabled/s/ 0x1 / 0x2 /' "$quote" >"$scratch/altered"
check "with an altered log it is refused" \
        refuses 'it was altered' --key="$scratch/key.pem" --nonce=$nonce "$scratch/altered"
sed -e '/^event vp-enabled/d' -e 's/^events 3/events 2/' "$quote" >"$scratch/shorter"
check "and with a shorter one" \
        refuses 'it was altered' --key="$scratch/key.pem" --nonce=$nonce "$scratch/shorter"
case $digest in
f*) first=e ;;
*) first=f ;;
esac
sed "s/^measurement .*/measurement $first${digest#?}/" "$quote" >"$scratch/other"
check "and with another measurement" \
        refuses 'it was altered' --key="$scratch/key.pem" --nonce=$nonce "$scratch/other"

# ---- What is required ----

{ rule any
  rule right "measurement=$digest"
  rule wrong "measurement=$zeroes$zeroes"; } >"$scratch/policy.conf"
kill -HUP "$vtld"
check "measurements are required" wait_until 20 "$vtld" is_generation 2
check "the right VTL1 runs" hold_guest right ''
check "and was measured to the same" status_has "^ *Measurement: measured, $digest\$"
let_go
check "one that is not required does not, and is told so" hold_guest wrong refused=1
check "vtlctl says that it was refused" status_has "^ *Measurement: refused, $digest\$"
check "so does the log" logged "asked for VTL1, which policy \"wrong\" refuses: its measurement is $digest"
check "and the quote" vtlctl quote wrong --nonce=$nonce --output="$quote"
check "which verifies" verify --key="$scratch/key.pem" --nonce=$nonce "$quote"
let_go
check "one that is altered before its first instruction does not run it" \
        run_guest right 'alter=1 refused=2'
check "one that may execute everything is refused" run_guest right 'wide=1 refused=1'
check "where nothing is required it runs" hold_guest any wide=1
check "and is called unbounded" status_has '^ *Measurement: unbounded$'
let_go

# ---- The key stays ----

end_process "$vtld"
check "vtld starts again" start
vtlctl quote key --output="$scratch/again.pem"
check "with the same key" cmp "$scratch/key.pem" "$scratch/again.pem"

finish
