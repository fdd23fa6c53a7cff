# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# For the parts that run in the emulated Debian system.

: "${srcdir:?}" "${builddir:?}" "${part:?}"

# Makes the root file system if it is not there; skips the part where that cannot be.
system_or_skip()
{
        local why

        why=$(timeout 900 "$srcdir/tests/system/make-root") && return
        case $? in
        77) ;;
        124) why="the packages cannot be had: they were not there after 900 s" ;;
        *) exit 1 ;;
        esac
        skip_part "${why//\'/}"
}

# select_tests PATTERNS TEST...: sets selected to those whose names match one of the patterns
select_tests()
{
        local patterns pattern test

        read -r -a patterns <<<"$1"
        shift
        selected=()
        for test in "$@"; do
                for pattern in "${patterns[@]}"; do
                        # A pattern is what it is.
                        # shellcheck disable=SC2053
                        [[ ${test%%=*} == $pattern ]] && { selected+=("$test"); break; }
                done
        done
}

# run_in_system SECONDS OPTION...: the selected tests, none of which may take longer
run_in_system()
{
        local each=$1 command

        shift
        mkdir -p "$builddir/check-logs/$part"
        printf -v command '%q ' "$srcdir/tests/host/run-tests" --each "$each" --system "$@" \
                --kernel-log "$builddir/check-logs/$part/kernel-log" --timeout 1500 -- "${selected[@]}"
        run_tap --timeout 2400 "$part=exec $command"
}
