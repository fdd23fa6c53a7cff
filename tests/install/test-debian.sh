#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The packages that build-aux/make-deb has left in the build directory.

: "${srcdir:?}" "${builddir:?}"
# shellcheck source=tests/tap.sh
. "$srcdir/tests/tap.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
folder=$builddir/deb

package()
{
        find "$folder" -maxdepth 1 -name "$1_*.deb"
}

field()
{
        dpkg-deb -f "$(package "$1")" "$2"
}

# files PACKAGE: one line for each
files()
{
        dpkg-deb -c "$(package "$1")" | sed -n 's/^[-l].* \.\(\/[^ ]*\).*/\1/p'
}

# contains PACKAGE PATTERN...: a file for each pattern of the shell
contains()
{
        files "$1" >"$scratch/files"
        shift
        for pattern in "$@"; do
                found=no
                while read -r f; do
                        # A pattern is what it is.
                        # shellcheck disable=SC2254
                        case $f in $pattern) found=yes ;; esac
                done <"$scratch/files"
                [ "$found" = yes ] || { diag "no $pattern"; return 1; }
        done
}

lintian_is_silent()
{
        root=
        [ "$(id -u)" -ne 0 ] || root=--allow-root
        # Nothing, or one word.
        # shellcheck disable=SC2086
        said=$(lintian $root --no-cfg --tag-display-limit 0 "$folder"/vtld_*.changes 2>&1)
        [ -z "$said" ] && return
        diag "$said"
        return 1
}

same_version()
{
        configured=$(sed -n 's/^AC_INIT(\[vtld\], \[\(.*\)\])$/\1/p' "$srcdir/configure.ac")
        packaged=$(sed -n '1s/^vtld (\([^)]*\)).*/\1/p' "$srcdir/debian/changelog")
        is "$packaged" "$configured" "the changelog's version is that of configure.ac"
        for p in vtld vtlrun libvtlvmm0 libvtlvmm-dev; do
                is "$(field $p Version)" "$configured" "$p is of this version"
        done
}

# Everything that `make install` leaves is in a package, or named in debian/not-installed; dh_missing
# has seen to that. Nothing is in two.
nothing_twice()
{
        for p in vtld vtlrun libvtlvmm0 libvtlvmm-dev; do
                files "$p"
        done | sort | uniq -d >"$scratch/twice"
        [ ! -s "$scratch/twice" ] || { diag "$(cat "$scratch/twice")"; return 1; }
}

# An upgrade leaves the socket where it is, and never starts a vtld that was not running.
scripts_spare_the_socket()
{
        dpkg-deb --ctrl-tarfile "$(package vtld)" | tar -xO ./postinst ./prerm >"$scratch/scripts"
        grep -q "deb-systemd-invoke start 'vtld.socket'" "$scratch/scripts" &&
                grep -q "_dh_action 'vtld.service'" "$scratch/scripts" &&
                ! grep -q "_dh_action.*vtld.socket" "$scratch/scripts" &&
                ! grep -q 'systemctl.*stop.*upgrade' "$scratch/scripts"
}

[ -n "$(find "$folder" -name '*.deb' 2>/dev/null)" ] || skip_all "no packages in $folder"

same_version
check "vtld has what a service needs" contains vtld /usr/libexec/vtld \
        /usr/libexec/vtld-libvirt /usr/bin/vtlctl \
        '*/systemd/system/vtld.service' '*/systemd/system/vtld.socket' /usr/lib/sysusers.d/vtld.conf \
        /usr/lib/tmpfiles.d/vtld.conf /usr/lib/sysctl.d/50-vtld.conf \
        /usr/lib/systemd/catalog/vtld.catalog /usr/share/dbus-1/system.d/org.vtld1.conf \
        /usr/share/dbus-1/system-services/org.vtld1.service \
        /usr/share/polkit-1/actions/org.vtld1.policy /etc/apparmor.d/vtld \
        /usr/share/bash-completion/completions/vtlctl '/usr/share/man/man8/vtld.8*' \
        '/usr/share/man/man1/vtlctl.1*' '/usr/share/man/man5/vtld.conf.5*' '/usr/share/man/man5/org.vtld1.5*' \
        /usr/share/doc/vtld/examples/libvirt-domain.xml.example
check "vtlrun is there" contains vtlrun /usr/bin/vtlrun '/usr/share/man/man1/vtlrun.1*'
check "the library is there" contains libvtlvmm0 '/usr/lib/*/libvtlvmm.so.0*'
check "what a VMM is built with is there" contains libvtlvmm-dev /usr/include/vtlvmm.h \
        /usr/include/vtl/protocol.h '/usr/lib/*/libvtlvmm.so' '/usr/lib/*/pkgconfig/vtlvmm.pc'
check "no file is in two packages" nothing_twice
check "an upgrade leaves the socket alone" scripts_spare_the_socket
if command -v lintian >/dev/null; then
        check "lintian says nothing" lintian_is_silent
else
        skip "lintian says nothing" "no lintian here"
fi
plan_at_end
finish
