#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Builds the initramfs of the emulated host, or that of a Linux guest inside it.  Both are plain
# cpio archives: compressing them here and unpacking them under emulation would take longer.

set -eu

usage()
{
        cat <<'END'
Usage: tests/host/mkinitramfs.sh OUT [SRC=DEST]...
       tests/host/mkinitramfs.sh --l2 OUT

The first form makes the initramfs of the emulated host: busybox, the KVM and virtio modules, the
init of this directory, and the files SRC (or whole directories) at the absolute path DEST.  A
dynamic program brings its shared libraries, a wrapper script of libtool its real program.

The second form makes the initramfs of a Linux guest: its init prints what the kernel says of its
hypervisor, then writes 0 to port 0xf4, which ends vtlrun with status 1.
END
}

here=$(cd "$(dirname "$0")" && pwd)

fail()
{
        echo "mkinitramfs: $*" >&2
        exit 1
}

# The directories that every tree has; /bin and the like are links as on Debian, so that library
# paths with and without /usr are the same file.
make_skeleton()
{
        mkdir -p "$tree/usr/bin" "$tree/usr/sbin" "$tree/usr/lib" "$tree/usr/lib64" "$tree/proc" \
                "$tree/sys" "$tree/dev" "$tree/tmp" "$tree/run" "$tree/etc" "$tree/root" \
                "$tree/var"
        ln -s usr/bin usr/sbin usr/lib usr/lib64 "$tree/"
        ln -s ../run "$tree/var/run"
        chmod 1777 "$tree/tmp"

        busybox=$(command -v busybox) || fail "busybox is missing: run build-aux/setup.sh"
        ! ldd "$busybox" >/dev/null 2>&1 || fail "$busybox is not static: install busybox-static"
        cp "$busybox" "$tree/usr/bin/busybox"
        "$busybox" --list | while read -r applet; do
                [ "$applet" = busybox ] || ln -s busybox "$tree/usr/bin/$applet"
        done
        ln -s ../usr/bin/busybox "$tree/usr/sbin/init"
}

# Who is who, for dbus-daemon and whoever else asks for a user by name.
make_etc()
{
        cat >"$tree/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
messagebus:x:100:100::/nonexistent:/bin/false
vtld:x:101:101::/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
END
        cat >"$tree/etc/group" <<'END'
root:x:0:
kvm:x:99:
messagebus:x:100:
vtld:x:101:
nogroup:x:65534:
END
        echo 'passwd: files
group: files' >"$tree/etc/nsswitch.conf"
        echo '127.0.0.1 localhost' >"$tree/etc/hosts"
        echo 'emulated-host' >"$tree/etc/hostname"
        echo '6d1f0c2e8a474f0fb3d0a7c4e5b69a10' >"$tree/etc/machine-id"
}

# real_program SRC: libtool leaves a script where the program should be, and the program in .libs.
real_program()
{
        real=$(dirname "$1")/.libs/$(basename "$1")
        if [ -f "$real" ] && head -c 2 "$1" | grep -q '^#!' && grep -q 'libtool wrapper' "$1"; then
                echo "$real"
        else
                echo "$1"
        fi
}

# wrapper_library_path SRC: where the wrapper script finds the libraries that are not installed.
wrapper_library_path()
{
        head -c 2 "$1" | grep -q '^#!' || return 0
        # shellcheck disable=SC2016
        sed -n 's/^ *LD_LIBRARY_PATH="\([^"$]*\):*\$LD_LIBRARY_PATH".*/\1/p' "$1" | head -n 1
}

# add_libraries FILE LIBRARY_PATH: the libraries stay where they are here; those outside the
# loader's own directories get a link in one of them.
add_libraries()
{
        libraries=$(LD_LIBRARY_PATH="$2" ldd "$1" 2>/dev/null) || return 0
        case $libraries in
        *'=> not found'*)
                echo "$libraries" | grep 'not found' >&2
                fail "$1: a shared library is missing"
                ;;
        esac
        echo "$libraries" | sed -n -e 's/.*=> *\(\/[^ ]*\) (.*/\1/p' -e 's/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' |
                while read -r library; do
                        [ -e "$tree$library" ] && continue
                        mkdir -p "$tree$(dirname "$library")"
                        cp -L "$library" "$tree$library"
                        case $library in
                        /lib/*|/usr/lib/*|/lib64/*) ;;
                        *) ln -sf "$library" "$tree/usr/lib/$(basename "$library")" ;;
                        esac
                done
}

is_elf()
{
        [ "$(od -An -tx1 -N 4 "$1" | tr -d ' ')" = 7f454c46 ]
}

add_payload()
{
        source=${1%%=*}
        dest=${1#*=}
        case $1 in *=/*) ;; *) fail "$1: not of the form SRC=/DEST" ;; esac
        [ -e "$source" ] || fail "$source: no such file"

        mkdir -p "$tree$(dirname "$dest")"
        if [ -d "$source" ]; then
                mkdir -p "$tree$dest"
                cp -RL "$source/." "$tree$dest/"
                find "$source" -type f -perm -u+x | while read -r program; do
                        ! is_elf "$program" || add_libraries "$program" ''
                done
                return
        fi

        program=$(real_program "$source")
        # A program may take the place of a busybox applet, and must not write through its link.
        cp -L --remove-destination "$program" "$tree$dest"
        if is_elf "$program"; then
                add_libraries "$program" "$(wrapper_library_path "$source")"
        fi
}

make_host()
{
        linux=${VTLD_CACHE:-${HOME:-/root}/.cache/vtld}/linux/${VTLD_KERNEL:-current}
        [ -s "$linux/modules.load" ] || fail "no kernel in $linux: run build-aux/setup.sh"

        make_skeleton
        make_etc
        mkdir -p "$tree/host" "$tree/out"
        cp -R "$linux/modules" "$linux/modules.load" "$tree/host/"
        cp "$here/init" "$tree/init"
        chmod 755 "$tree/init"
        for payload in "$@"; do
                add_payload "$payload"
        done
}

make_l2()
{
        make_skeleton
        cp "$here/l2-init" "$tree/init"
        chmod 755 "$tree/init"
        ${CC:-gcc} -nostdlib -static -Wl,--build-id=none -o "$tree/usr/bin/port-exit" \
                "$here/port-exit.S"
}

kind=host
case ${1:-} in
-h|--help) usage; exit 0 ;;
--l2) kind=l2; shift ;;
esac
[ $# -ge 1 ] || { usage >&2; exit 2; }
[ $kind = host ] || [ $# -eq 1 ] || { usage >&2; exit 2; }

out=$1
shift
case $out in /*) ;; *) out=$(pwd)/$out ;; esac

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$tree"
make_$kind "$@"
(cd "$tree" && find . | cpio -o -H newc -R 0:0 --quiet) >"$out"
