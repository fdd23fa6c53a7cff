#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every fuzz target on its corpus, so that what was found once stays found without a fuzzer.

: "${srcdir:?}" "${builddir:?}" "${FUZZERS:?}"
# shellcheck source=tests/tap.sh
. "$srcdir/tests/tap.sh"

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# shellcheck disable=SC2086
set -- $FUZZERS
plan $#
for program in "$@"; do
        name=$(basename "$program")
        corpus=$srcdir/tests/fuzz/corpus/${name#fuzz-}
        set -- "$corpus"
        [ "$LIBFUZZER" = yes ] && set -- -runs=0 "$corpus"
        if [ -n "$(ls "$corpus")" ] && "$builddir/$program" "$@" >"$output" 2>&1; then
                tap_result 0 "$name"
        else
                tap_result 1 "$name"
                sed 's/^/# /' "$output"
        fi
done
finish
