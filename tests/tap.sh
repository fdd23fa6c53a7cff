# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# The Test Anything Protocol for tests in shell: to be sourced.
#
#       plan 2                          or plan_at_end after the last check
#       check "it works" test -e file   runs the command: ok when it succeeds
#       is "$got" "$expected" "name"    compares two texts, and shows both when they differ
#       skip "name" "reason"
#       skip_all "reason"               instead of a plan: nothing of this test can run here
#       finish                          exit status 0 only when every check was ok

tap_count=0
tap_failed=0

plan()
{
        echo "1..$1"
}

plan_at_end()
{
        echo "1..$tap_count"
}

diag()
{
        printf '%s\n' "$*" | sed 's/^/# /'
}

tap_result()
{
        tap_count=$((tap_count + 1))
        if [ "$1" -eq 0 ]; then
                echo "ok $tap_count - $2"
        else
                echo "not ok $tap_count - $2"
                tap_failed=$((tap_failed + 1))
        fi
}

check()
{
        tap_name=$1
        shift
        tap_status=0
        "$@" || tap_status=$?
        tap_result "$tap_status" "$tap_name"
}

is()
{
        if [ "$1" = "$2" ]; then
                tap_result 0 "$3"
        else
                tap_result 1 "$3"
                diag "got:      $1"
                diag "expected: $2"
        fi
}

skip()
{
        tap_count=$((tap_count + 1))
        echo "ok $tap_count - $1 # SKIP $2"
}

skip_all()
{
        echo "1..0 # SKIP $1"
        exit 0
}

finish()
{
        [ "$tap_failed" -eq 0 ]
        exit
}
