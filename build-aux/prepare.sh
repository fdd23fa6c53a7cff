#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# From a checkout to a build, for ./demo and ./check: says in a line each what was done and how long
# it took, or what failed and where its log is.

set -u

usage()
{
        cat <<END
Usage: build-aux/prepare.sh [--no-setup] BUILDDIR [MAKE-ARGUMENTS]...

Installs the Debian packages that are missing, makes configure, configures and builds in BUILDDIR.
Each MAKE-ARGUMENTS, which may be several words, is one call of make (default: "all").
END
}

setup=yes
case ${1:-} in
-h|--help) usage; exit 0 ;;
--no-setup) setup=no; shift ;;
esac
[ $# -ge 1 ] || { usage >&2; exit 2; }

srcdir=$(cd "$(dirname "$0")/.." && pwd) || exit 1
mkdir -p "$1" && builddir=$(cd "$1" && pwd) || exit 1
shift
[ $# -gt 0 ] || set -- all
cd "$srcdir" || exit 1

# The steps ask for no input, and the environment of the caller's make is not theirs.
exec </dev/null
unset MAKEFLAGS MAKELEVEL MFLAGS

now() { date +%s%N; }

# step NAME LOG COMMAND...: nothing else can be done when it fails
step()
{
        local name=$1 log=$2 begin ms status=0

        shift 2
        begin=$(now)
        "$@" >"$log" 2>&1 || status=$?
        if [ "$status" -ne 0 ]; then
                tail -n 40 "$log"
                echo "FAIL $name: exit status $status (all of it: $log)"
                exit 1
        fi
        ms=$((($(now) - begin) / 1000000))
        printf '%-4s %-40s %9s\n' ok "$name" "$((ms / 1000)).$((ms % 1000 / 100)) s"
}

autoreconf_is_done()
{
        [ configure -nt configure.ac ] && [ Makefile.in -nt Makefile.am ] &&
                [ config.h.in -nt configure.ac ] && [ aclocal.m4 -nt m4/vtld-flags.m4 ] &&
                [ -e build-aux/tap-driver.sh ]
}

[ $setup = no ] || step set-up "$builddir/setup.log" build-aux/setup.sh
autoreconf_is_done || step autoreconf "$builddir/autoreconf.log" autoreconf -fi
[ -e "$builddir/config.status" ] ||
        step configure "$builddir/configure.log" \
                env -C "$builddir" "$srcdir/configure" --enable-werror
for arguments in "$@"; do
        read -r -a words <<<"$arguments"
        step "make $arguments" "$builddir/make-${words[0]}.log" \
                make -C "$builddir" -j"$(nproc)" "${words[@]}"
done
