# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# For the scripts in tests/parts, which ./check starts with srcdir, builddir and VTLD_TOTALS set:
# everything that counts goes through run_tap.

set -u
: "${srcdir:?is started by ./check}" "${builddir:?}" "${VTLD_TOTALS:?}" "${jobs:=1}"
export srcdir builddir

part=$(basename "$0")
python=/usr/bin/python3
cd "$srcdir" || exit 1

# run_tap [OPTION]... TEST...: TESTs as tests/run-tap takes them
run_tap()
{
        "$srcdir/tests/run-tap" --totals "$VTLD_TOTALS" --log-dir "$builddir/check-logs/$part" "$@"
}

# skip_part REASON: nothing of this part can run here.
skip_part()
{
        run_tap "$part=echo '1..0 # SKIP $1'"
        exit
}

# configure_variant DIR OPTION...: another build of the same sources, kept for the next time
configure_variant()
{
        local dir=$1

        shift
        mkdir -p "$dir"
        if [ -e "$dir/config.status" ]; then
                # Brought up to date now, so that nothing else prints what that takes.
                make -C "$dir" Makefile >"$dir/configure.log" 2>&1
                return
        fi
        if ! (cd "$dir" && "$srcdir/configure" --enable-werror "$@") >"$dir/configure.log" 2>&1; then
                tail -n 20 "$dir/configure.log"
                return 1
        fi
}

# make_variant DIR ARGUMENT...
make_variant()
{
        local dir=$1

        shift
        if ! make -C "$dir" -j"$jobs" "$@" >"$dir/make.log" 2>&1; then
                tail -n 40 "$dir/make.log"
                return 1
        fi
}

# tests_of DIR TARGET PREFIX: NAME=COMMAND of each test of a build that `make TARGET` prints
tests_of()
{
        local t where

        for t in $(make -s --no-print-directory -C "$1" "$2"); do
                where=$1
                [ -e "$1/$t" ] || where=$srcdir
                echo "$3$(basename "$t")=$where/$t"
        done
}

# python_tests DIR PREFIX: NAME=COMMAND of each Python test in a directory
python_tests()
{
        local t

        for t in "$srcdir/$1"/test*.py; do
                [ -e "$t" ] || continue
                echo "$2$(basename "$t" .py)=$python $t"
        done
}
