#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What `make install` leaves: all of it in its place, and of use to somebody else's build.

: "${srcdir:?}" "${builddir:?}"
# shellcheck source=tests/tap.sh
. "$srcdir/tests/tap.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
dest=$scratch/dest

installed()
{
        # Names that the configuration may change come from where they are now.
        find "$dest" -name "$1" | grep -q .
}

# With the paths of the DESTDIR in place of the real ones
config()
{
        PKG_CONFIG_PATH=$(dirname "$(find "$dest" -name vtlvmm.pc)") \
                PKG_CONFIG_SYSROOT_DIR=$dest pkg-config "$@" vtlvmm
}

# build COMPILER OUTPUT [FLAG]...
build()
{
        compiler=$1
        output=$2
        shift 2
        # The flags are words.
        # shellcheck disable=SC2046
        "$compiler" "$@" -Wall -Wextra -Werror -o "$output" "$srcdir/tests/install/consumer.c" \
                $(config --cflags --libs)
}

exports()
{
        nm -D --defined-only "$(find "$dest" -name 'libvtlvmm.so.*' -type f)" |
                sed -n 's/.* T \([^@]*\).*/\1/p' | sort
}

declared()
{
        sed -n 's/^[a-z].*[ *]\(vtlvmm_[a-z_]*\)(.*/\1/p' \
                "$(find "$dest" -name vtlvmm.h)" | sort
}

no_placeholder()
{
        ! grep -rnI '@[a-zA-Z_]*dir@' "$dest"
}

no_build_path()
{
        ! grep -rlI -e "$builddir" -e "$srcdir" "$dest"
}

# quietly COMMAND...: shows what it printed only when it failed
quietly()
{
        "$@" >"$scratch/log" 2>&1 && return
        diag "$(tail -n 20 "$scratch/log")"
        return 1
}

check "make install" quietly make -s -C "$builddir" install DESTDIR="$dest"
for f in vtld vtlrun vtlvmm.h vtlvmm.pc libvtlvmm.so vtld.service org.vtld1.conf; do
        check "installs $f" installed "$f"
done
check "no placeholder is left in a file" no_placeholder
check "no file names the build" no_build_path
check "the header is understood" test "$(declared | wc -l)" -ge 5
is "$(exports)" "$(declared)" "the library exports what the header declares, and nothing else"

check "a VMM in C" build "${CC:-cc}" "$scratch/consumer"
if command -v g++ >/dev/null; then
        check "a VMM in C++" build g++ "$scratch/consumer++" -x c++
else
        skip "a VMM in C++" "no g++ here"
fi
libdir=$(dirname "$(find "$dest" -name libvtlvmm.so)")
check "it runs" quietly env LD_LIBRARY_PATH="$libdir" "$scratch/consumer"

if command -v systemd-analyze >/dev/null; then
        # The program is not in its place on this machine: any one that is does for this check.
        unit=$(find "$dest" -name vtld.service)
        sed 's,^ExecStart=[^ ]*,ExecStart=/bin/true,' "$unit" >"$scratch/vtld.service"
        check "the unit is valid" systemd-analyze verify --man=no "$scratch/vtld.service"
else
        skip "the unit is valid" "no systemd-analyze here"
fi

check "make uninstall" quietly make -s -C "$builddir" uninstall DESTDIR="$dest"
is "$(find "$dest" -type f)" "" "nothing is left after it"
plan_at_end
finish
