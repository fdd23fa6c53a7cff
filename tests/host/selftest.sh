#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Tests of the emulated host itself: what the other tests rely on when they run inside it.

set -u

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tap.sh
. "$here/../tap.sh"

host=$here/emulated-host
cache=${VTLD_CACHE:-${HOME:-/root}/.cache/vtld}

command -v qemu-system-x86_64 >/dev/null || skip_all "no qemu-system-x86_64"
[ -s "$cache/linux/current/modules.load" ] || skip_all "no kernel in $cache: run build-aux/setup.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# has_line FILE LINE
has_line()
{
        grep -qxF -e "$2" "$1" || {
                diag "no line '$2' in:"
                diag "$(cat "$1")"
                return 1
        }
}

plan 21

# Hosts that break down, by a list of how each ends: run-tests beside a host that only says so.
mkdir -p "$scratch/fake/host"
cp "$here/run-tests" "$scratch/fake/host"
cp "$here/../tap.sh" "$scratch/fake"
cat >"$scratch/fake/host/emulated-host" <<'END'
#!/bin/sh
# run-tests has its list as the last but one --file; the first word of "ends" is how this boot ends.
here=$(dirname "$0")
for argument in "$@"; do
        case $argument in
        *=/host/tests) list=${argument%=/host/tests} ;;
        esac
done
read -r after status <"$here/ends"
sed -i 1d "$here/ends"
n=0
while read -r name rest; do
        printf '#: begin %s\n1..1\n' "$name"
        [ $n -lt "$after" ] || break
        printf 'ok 1 - boot %s\n#: end %s 0 0.01\n' "$after" "$name"
        n=$((n + 1))
done <"$list"
exit "$status"
END
chmod +x "$scratch/fake/host/emulated-host"

# breakdowns ENDS: "TESTS-THAT-END STATUS" for each boot; of five tests
breakdowns()
{
        printf '%b' "$1" >"$scratch/fake/host/ends"
        VTLD_CACHE=$cache "$scratch/fake/host/run-tests" -- a=true b=true c=true d=true e=true \
                2>"$scratch/errors" >"$scratch/output"
        echo "$? $(grep -c '^#: end' "$scratch/output") $(grep -c '^#: begin' "$scratch/output")" \
                "$(grep -c '^Bail out' "$scratch/output") $(wc -l <"$scratch/errors")"
}

is "$(breakdowns '5 0\n')" "0 5 5 0 0" "run-tests: a host that holds"
is "$(breakdowns '2 125\n0 125\n1 125\n2 0\n')" "0 5 5 0 3" \
        "run-tests: after a breakdown it goes on where it was, and each test ends once"
is "$(breakdowns '1 125\n0 125\n0 125\n9 0\n')" "125 1 2 1 2" \
        "run-tests: three breakdowns in the same test are the end"
is "$(breakdowns '5 125\n')" "0 5 5 0 0" "run-tests: a host that breaks down after all tests"

# One boot for all that one command can show.
${CC:-gcc} -std=gnu17 -O1 -o "$scratch/kvm-smoke" "$here/kvm-smoke.c"
mkdir "$scratch/data"
echo 'some text' >"$scratch/data/file"
cat >"$scratch/inside" <<'END'
echo "arguments $#: $1|$2"
echo "variable: $COLOUR"
echo "to standard error" >&2
printf 'a\0b\tc\n' >/out/bytes
printf 'zero \0 byte\n'
cat /put/here/file
mkdir /out/folder && cp /put/here/file /out/folder/copy
sleep 1000 &
exec /bin/kvm-smoke
END
# shellcheck disable=SC2016
"$host" --timeout 60 --out "$scratch/out" --env 'COLOUR=deep red' \
        --file "$scratch/kvm-smoke=/bin/kvm-smoke" --file "$scratch/data=/put/here" \
        --file "$scratch/inside=/inside" -- sh /inside 'one word' '$2' >"$scratch/output"
is $? 0 "exit status 0 comes back, though a child of the command still runs"

# shellcheck disable=SC2016
check "arguments are passed as they are" \
        has_line "$scratch/output" 'arguments 2: one word|$2'
check "variables are passed as they are" has_line "$scratch/output" 'variable: deep red'
check "standard error is in the output" has_line "$scratch/output" 'to standard error'
check "directories are brought in" has_line "$scratch/output" 'some text'
is "$(grep -ac "^zero $(printf '.') byte" "$scratch/output")" 1 "a zero byte in the output"
is "$(tr -cd '\r' <"$scratch/output" | wc -c)" 0 "no carriage returns in the output"
is "$(od -An -c "$scratch/out/bytes" | tr -d ' ')" 'a\0b\tc\n' "--out brings files back"
is "$(cat "$scratch/out/folder/copy")" 'some text' "--out brings folders back"
check "KVM runs a guest to its serial output" has_line "$scratch/output" 'exit 2'
check "KVM runs a guest to its halt" has_line "$scratch/output" 'exit 5'
check "KVM offers synchronised registers" has_line "$scratch/output" 'KVM_CAP_SYNC_REGS 0x7'

# shellcheck disable=SC2016
"$host" --smp 2 --timeout 60 -- sh -c 'exit $(($(nproc) + 5))'
is $? 7 "exit status 7 comes back, from a host with two processors"

"$host" --timeout 1 -- sleep 1000 2>/dev/null
is $? 124 "a command that hangs is ended with status 124"

"$host" --append 'rdinit=/nonexistent' -- true 2>"$scratch/errors"
is "$? $(grep -c 'Kernel panic' "$scratch/errors")" '125 1' \
        "a host that does not boot is status 125, with the end of its log"

"$host" --append 'tsc_early_khz=300000' -- echo started >"$scratch/output" 2>"$scratch/errors"
is "$? $(cat "$scratch/output") $(grep -c "the host's clock went .* once more" "$scratch/errors")" '125  2' \
        "a clock that is wrong is seen before the command starts, and may be so three times"

# Ended from outside, it takes its QEMU along: the pipe closes only when both are gone.
mkfifo "$scratch/pipe"
timeout 60 cat "$scratch/pipe" >"$scratch/output" &
reader=$!
"$host" -- sh -c 'echo up; sleep 1000' >"$scratch/pipe" 2>&1 &
pid=$!
tries=0
while ! grep -q up "$scratch/output" && [ $tries -lt 300 ]; do
        sleep 0.1
        tries=$((tries + 1))
done
kill -TERM $pid
wait $pid
status=$?
wait $reader
is "$status $?" '143 0' "a signal ends it and its QEMU"

finish
