#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# inside.sh DIRECTORY: what policy does to VMs that run. For the emulated host. DIRECTORY holds vtld,
# vtlctl, vtlrun, run-guest, the guests enable.elf and demo.elf, org.vtld1.conf, tap.sh, daemons.sh, and
# a key: private.pem and public.pem.

set -u

folder=$1
# shellcheck source=tests/tap.sh
. "$folder/tap.sh"
# shellcheck source=tests/demo/daemons.sh
. "$folder/daemons.sh"

begin_scratch

mkdir -p "$scratch/policy.d" "$scratch/keys.d"
cp "$folder/public.pem" "$scratch/keys.d/test.pem"
cat >"$scratch/vtld.conf" <<END
[vtld]
socket-path = $scratch/attach.sock
policy-directories = $scratch/policy.d
policy = $scratch/policy.conf
keys-directory = $scratch/keys.d
END

# rule NAME [KEY=VALUE]...: for VMs of that name
rule()
{
        printf '[match %s]\nname = %s\n' "$1" "$1"
        shift
        printf '%s\n' allow-vtl1=yes "$@"
}

# start SIGNATURES: vtld with this policy
start()
{
        "$folder/vtld" --config="$scratch/vtld.conf" --bus="$address" --policy-signatures="$1" \
                >"$scratch/vtld.log" 2>&1 &
        vtld=$!
        wait_until 20 "$vtld" vtld_answers
}

# run_guest OPTION...: enable.elf checks by itself what it may and may not
run_guest()
{
        sh "$folder/run-guest" "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 60 "$@" \
                "$folder/enable.elf" >"$scratch/guest.log" 2>&1 && return
        diag "$(cat "$scratch/guest.log")"
        return 1
}

# cannot_attach TEXT OPTION...
cannot_attach()
{
        expected=$1
        shift
        "$folder/vtlrun" --attach "$scratch/attach.sock" --timeout 60 "$@" "$folder/enable.elf" \
                >"$scratch/guest.log" 2>&1 </dev/null
        grep -q -e "$expected" "$scratch/guest.log" && return
        diag "$(cat "$scratch/guest.log")"
        return 1
}

# logged TEXT
logged()
{
        grep -q -e "$1" "$scratch/vtld.log" && return
        diag "$(tail -n 20 "$scratch/vtld.log")"
        return 1
}

# manager PROPERTY: its value
manager()
{
        bus get-property org.vtld1 /org/vtld1 org.vtld1.Manager "$1" 2>&1 |
                sed -e 's/^[a-z]* //' -e 's/^"\(.*\)"$/\1/'
}

is_generation()
{
        [ "$(manager PolicyGeneration)" = "$1" ]
}

policy()
{
        "$folder/vtlctl" --bus="$address" --config="$scratch/vtld.conf" policy "$@"
}

# explains VM TEXT
explains()
{
        policy explain "$1" >"$scratch/explained" 2>&1
        grep -q -F -e "$2" "$scratch/explained" && return
        diag "$(cat "$scratch/explained")"
        return 1
}

# host_passes TITLE...: of lines of vtlctl check-host
host_passes()
{
        for title in "$@"; do
                grep -q -F -e "PASS  $title: " "$scratch/host" && continue
                diag "$(cat "$scratch/host")"
                return 1
        done
}

host_has_no_failure()
{
        grep -q -e ', 0 failed$' "$scratch/host" && return
        diag "$(cat "$scratch/host")"
        return 1
}

holds()
{
        grep -q 'holding for' "$scratch/demo.log"
}

plan 23

# ---- Rules ----

start_bus "$scratch" "$folder/org.vtld1.conf" || diag "$(cat "$scratch/dbus.log")"
echo "# in the drop-ins" >"$scratch/policy.conf"
{ rule small max-vps=2
  rule strict execute-enforcement=full
  rule bounded execute-enforcement=bounded strict-execute-pages=16
  rule devices dma-enforcement=full; } >"$scratch/policy.d/10-a.conf"
rule rest >"$scratch/policy.d/90-rest.conf"
check "vtld starts" start optional

check "a VM that is allowed VTL1 has it" run_guest --name rest --append precise=1
check "one of as many VPs as it may have" run_guest --name small --vcpus 2 --append precise=1
check "one of more VPs is not attached, and told why" \
        cannot_attach 'policy "small" allows this VM at most 2 VPs, and it has 3' --name small --vcpus 3
check "so is the log" logged 'refused: policy "small" allows this VM at most 2 VPs'
check "what cannot be enforced refuses VTL1" run_guest --name strict --append "allow=0 precise=1"
check "and the log says what" \
        logged 'policy "strict" refuses VTL1: it requires execute-enforcement = full, and here it is none'
check "so do the devices" run_guest --name devices --append "allow=0 precise=1"
check "bounded execute enforcement can be had" run_guest --name bounded --append precise=1
check "what no rule matches is refused" run_guest --name other --append "allow=0 precise=1"

"$folder/vtlrun" --attach "$scratch/attach.sock" --name rest --timeout 120 --append "precise=1 hold=100" \
        "$folder/demo.elf" </dev/null >"$scratch/demo.log" 2>&1 &
guest=$!
check "a guest runs" wait_until 90 $guest holds
check "vtlctl explains what it has" explains rest "[match rest] matches, and decides"
"$folder/vtlctl" --bus="$address" --interval=0.5 --count=1 top >"$scratch/top" 2>&1
check "vtlctl top shows it" grep -q -E '^rest +0 +[01] +[0-9]' "$scratch/top"
"$folder/vtlctl" --bus="$address" --config="$scratch/vtld.conf" check-host >"$scratch/host" 2>&1
check "vtlctl check-host finds that this host serves VMs" host_passes '/dev/kvm for this user' \
        'what KVM must offer' 'reports of forbidden accesses' 'policy files' 'vtld on D-Bus' \
        'attach socket for this user'
check "and nothing that fails" host_has_no_failure
rule before >"$scratch/policy.d/20-b.conf"
sed -i 's/^name = .*/name = */; s/=yes/=no/' "$scratch/policy.d/20-b.conf"
check "and that it would be otherwise now" explains rest \
        'vtld has decided otherwise when this VM was started: policy "rest", VTL1 allowed'
end_process "$guest"
guest=''
rm "$scratch/policy.d/20-b.conf"

# ---- Signatures ----

end_process "$vtld"
check "vtld starts without a signed policy" start required
check "and refuses everything" run_guest --name rest --append "allow=0 precise=1"
check "and says so" logged 'policy "unusable" refuses VTL1'
check "vtlctl signs" policy sign --key="$folder/private.pem" "$scratch/policy.conf" \
        "$scratch/policy.d/10-a.conf" "$scratch/policy.d/90-rest.conf"
kill -HUP "$vtld"
check "the signed policy is taken" wait_until 20 "$vtld" is_generation 1
check "and allows VTL1" run_guest --name rest --append precise=1
rule more >"$scratch/policy.d/20-more.conf"
kill -HUP "$vtld"
check "a file that is not signed changes nothing" wait_until 20 "$vtld" logged 'the policy stays as it was'

finish
