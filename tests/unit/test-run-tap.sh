#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Tests of tests/run-tap: a runner that counts wrongly would hide every other failure.

set -u

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/tap.sh
. "$here/../tap.sh"

run_tap=$here/../run-tap
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1

# closing TAP-COMMAND...: the exit status and the closing line of a run of shell commands.
closing()
{
        for command in "$@"; do
                set -- "$@" "t=$command"
                shift
        done
        "$run_tap" --timeout 20 "$@" >output 2>&1
        status=$?
        echo "$status: $(tail -n 1 output)"
}

# shows TEXT: the last run said so.
shows()
{
        grep -qF -e "$1" output || {
                diag "not in the output: $1"
                diag "$(cat output)"
                return 1
        }
}

plan 36

is "$(closing 'echo 1..2; echo ok 1 - a; echo ok 2 - b')" '0: 2 passed, 0 failed, 0 skipped' \
        "checks are counted"
is "$(closing 'echo ok 1; echo ok 2; echo 1..2')" '0: 2 passed, 0 failed, 0 skipped' \
        "the plan may come last"
is "$(closing 'echo 1..1; echo ok; echo 1..1; echo ok 1')" '0: 2 passed, 0 failed, 0 skipped' \
        "several groups in one program"
is "$(closing 'echo 1..1; echo ok 1 one' 'echo 1..1; echo ok 1 - two')" \
        '0: 2 passed, 0 failed, 0 skipped' "several programs"

is "$(closing 'echo 1..2; echo ok 1; echo not ok 2 - second; echo "# because"; exit 1')" \
        '1: 1 passed, 1 failed, 0 skipped' "a failed check"
check "its name is shown" shows 'failed: second'
check "so is what the test said" shows '| # because'

is "$(closing 'echo 1..2; echo "ok 1 # SKIP no KVM"; echo ok 2 - x')" \
        '0: 1 passed, 0 failed, 1 skipped' "a skipped check"
check "the reason is shown" shows 'no KVM'
is "$(closing 'echo 1..1; echo "not ok 1 # SKIP no KVM"')" '0: 0 passed, 0 failed, 1 skipped' \
        "a skipped check as cmocka prints it"
is "$(closing 'echo "1..0 # SKIP no QEMU"')" '0: 0 passed, 0 failed, 1 skipped' "a skipped program"
check "its reason is shown" shows 'no QEMU'
is "$(closing 'echo no compiler; exit 77')" '0: 0 passed, 0 failed, 1 skipped' \
        "status 77 without any TAP is a skip"
check "with the last line as its reason" shows 'no compiler'
is "$(closing 'echo 1..1; echo ok 1; exit 77')" '1: 1 passed, 1 failed, 0 skipped' \
        "status 77 after a check is not"

is "$(closing 'echo 1..3; echo ok 1')" '1: 1 passed, 1 failed, 0 skipped' "fewer checks than planned"
is "$(closing 'echo 1..1; echo ok 1; echo ok 2')" '1: 2 passed, 1 failed, 0 skipped' \
        "more checks than planned"
is "$(closing 'echo ok 1')" '1: 1 passed, 1 failed, 0 skipped' "no plan"
is "$(closing 'echo hello')" '1: 0 passed, 1 failed, 0 skipped' "no check"
is "$(closing 'echo 1..1; echo ok 1; exit 3')" '1: 1 passed, 1 failed, 0 skipped' \
        "a status that says otherwise"
is "$(closing 'echo 1..1; echo ok 1; kill -SEGV $$')" '1: 1 passed, 1 failed, 0 skipped' "a crash"
check "its signal is shown" shows 'SIGSEGV'
is "$(closing 'echo 1..2; echo ok 1; echo Bail out! no memory')" \
        '1: 1 passed, 1 failed, 0 skipped' "a test that gives up"
is "$(closing 'echo 1..1; echo okay then')" '1: 0 passed, 1 failed, 0 skipped' \
        "a word that begins with ok is no check"
"$run_tap" ./nothing-here >output
is "$? $(tail -n 1 output)" '1 0 passed, 1 failed, 0 skipped' "a program that is not there"

"$run_tap" --timeout 1 't=echo 1..1; echo ok 1; sleep 50 & wait' >output
is "$? $(tail -n 1 output)" '1 1 passed, 1 failed, 0 skipped' "a test that hangs"

cat >tap <<'END'
#: begin one
1..1
ok 1 - a
#: end one 0
#: begin two
1..1
not ok 1 - b
#: end two 1 61.25
END
"$run_tap" --tap host=tap >output
is "$? $(tail -n 1 output)" '1 1 passed, 1 failed, 0 skipped' "tests within a test, from a file"
check "each has its line" shows 'ok   one'
check "with the time that it names" shows '61.2 s'
echo '#: begin three
1..1
ok 1' >>tap
"$run_tap" --tap - <tap >output
is "$? $(tail -n 1 output)" '1 2 passed, 2 failed, 0 skipped' "one that has no end failed"

"$run_tap" --plain 'lint=true' --plain 'style=echo bad; false' --plain 'docs=echo no tool; exit 77' \
        >output
is "$? $(tail -n 1 output)" '1 1 passed, 1 failed, 1 skipped' "commands that only have a status"

"$run_tap" --totals totals 'a=echo 1..1; echo ok 1' >output
is "$? $(grep -c passed output)" '0 0' "--totals prints no closing line"
"$run_tap" --totals totals 'a=echo 1..1; echo not ok 1' >output
is "$?" 1 "--totals says that a check failed"
"$run_tap" --sum totals >output
is "$? $(cat output)" '1 1 passed, 1 failed, 0 skipped' "--sum adds up"
"$run_tap" >output
is "$? $(cat output)" '1 0 passed, 0 failed, 0 skipped' "to run nothing is not to pass"
"$run_tap" --log-dir logs 'a=echo 1..1; echo ok 1 - x' >output
is "$(cat logs/a.log)" '1..1
ok 1 - x' "--log-dir keeps what the test said"

finish
