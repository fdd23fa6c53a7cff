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

# in_place PATH: the end of the path where the file is, of which it is the only one
in_place()
{
        [ "$(find "$dest" -path "*$1" | wc -l)" -eq 1 ]
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
for f in vtld vtlctl vtlrun vtlvmm.h vtlvmm.pc libvtlvmm.so; do
        check "installs $f" installed "$f"
done
for f in /systemd/system/vtld.service /systemd/system/vtld.socket /sysusers.d/vtld.conf \
        /tmpfiles.d/vtld.conf /sysctl.d/50-vtld.conf /systemd/catalog/vtld.catalog \
        /dbus-1/system.d/org.vtld1.conf /dbus-1/system-services/org.vtld1.service \
        /dbus-1/interfaces/org.vtld1.Manager.xml /polkit-1/actions/org.vtld1.policy \
        /apparmor.d/vtld /bash-completion/completions/vtlctl; do
        check "installs ${f#/}" in_place "$f"
done
if [ -e "$builddir/vtld-libvirt" ]; then
        for f in vtld-libvirt libvirt-emulator.example libvirt-domain.xml.example; do
                check "installs $f" installed "$f"
        done
fi
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

# ---- Do those who read the files understand them? ----

# tool PROGRAM NAME COMMAND...: skipped where PROGRAM is not installed
tool()
{
        if command -v "$1" >/dev/null; then
                shift
                check "$@"
        else
                skip "$2" "no $1 here"
        fi
}

file()
{
        find "$dest" -path "*$1"
}

units_are_valid()
{
        # The program is not in its place on this machine: any one that is does for this check.
        sed 's,^ExecStart=[^ ]*,ExecStart=/bin/true,' "$(file /system/vtld.service)" \
                >"$scratch/vtld.service"
        cp "$(file /system/vtld.socket)" "$scratch/"
        said=$(systemd-analyze --no-pager verify --man=no "$scratch/vtld.service" \
                "$scratch/vtld.socket" 2>&1) && [ -z "$said" ] && return
        diag "$said"
        return 1
}

# Users that it would add to a system without any
users_are_valid()
{
        mkdir -p "$scratch/users/etc"
        quietly systemd-sysusers --root="$scratch/users" "$(file /sysusers.d/vtld.conf)" &&
                grep -q '^vtld:' "$scratch/users/etc/passwd"
}

# Where nobody is vtld, it is made root's, and it is the syntax that counts.
tmpfiles_are_valid()
{
        mkdir -p "$scratch/tmpfiles/etc"
        printf 'vtld:x:%d:%d::/:/bin/false\n' "$(id -u)" "$(id -g)" >"$scratch/tmpfiles/etc/passwd"
        printf 'vtld:x:%d:\n' "$(id -g)" >"$scratch/tmpfiles/etc/group"
        quietly systemd-tmpfiles --root="$scratch/tmpfiles" --create \
                "$(file /tmpfiles.d/vtld.conf)" && test -d "$scratch/tmpfiles/run/vtld"
}

# Every message of the program, found in the database that journalctl makes of the catalog
catalog_is_valid()
{
        mkdir -p "$scratch/catalog/usr/lib/systemd/catalog" "$scratch/catalog/var/lib/systemd/catalog"
        cp "$(file /catalog/vtld.catalog)" "$scratch/catalog/usr/lib/systemd/catalog/"
        quietly journalctl --root="$scratch/catalog" --update-catalog || return
        sed -n 's/^#define MESSAGE_.*"\([0-9a-f]*\)"$/\1/p' "$srcdir/daemon/messages.h" | sort \
                >"$scratch/used"
        sed -n 's/^-- \([0-9a-f]*\)$/\1/p' "$(file /catalog/vtld.catalog)" | sort \
                >"$scratch/explained"
        test -s "$scratch/used" && quietly diff "$scratch/used" "$scratch/explained" &&
                test -s "$scratch/catalog/var/lib/systemd/catalog/database"
}

# Without asking the kernel
profile_is_valid()
{
        # This kernel may have none: as on one that has all of ABI 3.0
        quietly apparmor_parser --skip-kernel-load --skip-cache --warn=all --Werror \
                --features-file=/etc/apparmor.d/abi/3.0 \
                "$(file /apparmor.d/vtld)"
}

actions_are_valid()
{
        quietly xmllint --noout --nonet "$(file /actions/org.vtld1.policy)" || return
        sed -n 's/.*<action id="\(.*\)">/\1/p' "$(file /actions/org.vtld1.policy)" | sort \
                >"$scratch/actions"
        sed -n 's/.*= "\(org\.vtld1\..*\)",/\1/p' "$srcdir/daemon/polkit.c" | sort \
                >"$scratch/asked"
        test -s "$scratch/asked" && quietly diff "$scratch/asked" "$scratch/actions"
}

tool systemd-analyze "the units are valid" units_are_valid
tool systemd-sysusers "the user is valid" users_are_valid
tool systemd-tmpfiles "the directories are valid" tmpfiles_are_valid
tool journalctl "the catalog explains every message" catalog_is_valid
tool apparmor_parser "the AppArmor profile is valid" profile_is_valid
tool xmllint "polkit's actions are those that are asked for" actions_are_valid

check "make uninstall" quietly make -s -C "$builddir" uninstall DESTDIR="$dest"
is "$(find "$dest" -type f)" "" "nothing is left after it"
plan_at_end
finish
