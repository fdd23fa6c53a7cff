#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Installs on Debian 12 what ./demo and ./check need, and fetches Debian's kernel, and the newer one and
# the QEMU of its backports, for the emulated host.  These are only unpacked into a cache directory: they
# are never installed on this machine, so no boot loader, no initramfs and no list of package sources
# of the machine is touched.

set -eu

usage()
{
        cat <<'END'
Usage: build-aux/setup.sh [--quiet] [--kernel-only] [--print-missing]

Installs the packages that vtld is built and tested with, and unpacks Debian's kernel, and kernel and
QEMU of its backports, into ${VTLD_CACHE:-$HOME/.cache/vtld}.  A second call finds everything there and
does nothing.

  --quiet           say nothing unless something is installed or fails
  --kernel-only     only fetch the kernels and the QEMU: needs no root
  --print-missing   only print what is missing, and install nothing
END
}

# What the build needs, what the tests need; and what single parts of ./check need, which are skipped
# without: the linters, the Debian packages, the Debian system.
build_packages='build-essential autoconf automake libtool pkg-config libsystemd-dev libinih-dev
        libjson-c-dev libzydis-dev libzycore-dev uthash-dev libcmocka-dev libseccomp-dev libssl-dev
        libvirt-dev libxml2-dev systemtap-sdt-dev'
test_packages='qemu-system-x86 seabios busybox-static cpio xz-utils gzip kmod dbus-daemon systemd
        mandoc openssl python3 python3-dbus python3-gi clang libclang-rt-14-dev'
optional_packages='shellcheck codespell apparmor libxml2-utils
        debhelper dh-apparmor dpkg-dev fakeroot lintian
        mmdebstrap e2fsprogs'

# The drivers of the emulated host; what they depend on is found with modinfo.
kernel_modules='virtio_pci virtio_console kvm-amd'

quiet=no
kernel_only=no
print_missing=no

while [ $# -gt 0 ]; do
        case $1 in
        --quiet) quiet=yes ;;
        --kernel-only) kernel_only=yes ;;
        --print-missing) print_missing=yes ;;
        -h|--help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
        esac
        shift
done

say()
{
        [ $quiet = yes ] || echo "setup: $*"
}

fail()
{
        echo "setup: $*" >&2
        exit 1
}

# Packages of "$@" that are not installed.
missing_packages()
{
        installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
                sed -n 's/^installed //p') || :
        for p in "$@"; do
                case "
$installed
" in
                *"
$p
"*) ;;
                *) echo "$p" ;;
                esac
        done
}

as_root()
{
        if [ "$(id -u)" -eq 0 ]; then
                "$@"
        elif command -v sudo >/dev/null; then
                sudo -- "$@"
        else
                fail "must be root to install packages (no sudo here); as root: apt-get install $missing"
        fi
}

updated=no
update_index()
{
        [ $updated = no ] || return 0
        updated=yes
        say "updating the package index"
        as_root apt-get update -qq
}

install_packages()
{
        # The names are words on purpose.
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
                --no-install-recommends $1 >"$log" 2>&1
}

need_packages()
{
        # shellcheck disable=SC2086
        missing=$(missing_packages $build_packages $test_packages | tr '\n' ' ')
        # shellcheck disable=SC2086
        optional=$(missing_packages $optional_packages | tr '\n' ' ')
        [ -n "$missing$optional" ] || return 0

        log=$(mktemp)
        # shellcheck disable=SC2064
        trap "rm -f '$log'" EXIT

        update_index
        if [ -n "$missing" ]; then
                echo "setup: installing $missing"
                install_packages "$missing" || {
                        cat "$log" >&2
                        fail "apt-get could not install: $missing"
                }
        fi
        if [ -n "$optional" ]; then
                echo "setup: installing $optional"
                install_packages "$optional" ||
                        echo "setup: no $optional: the checks that need them are skipped" >&2
        fi
        rm -f "$log"
        trap - EXIT
}

cache=${VTLD_CACHE:-${HOME:?setup.sh needs HOME or VTLD_CACHE}/.cache/vtld}

# kernel_is_cached NAME: current, or backports
kernel_is_cached()
{
        [ -s "$cache/linux/$1/vmlinuz" ] && [ -s "$cache/linux/$1/modules.load" ]
}

# linux-image-amd64 depends on the image of the day, for example linux-image-6.1.0-40-amd64.
# kernel_package [APT-OPTION]...
kernel_package()
{
        apt-cache "$@" show --no-all-versions linux-image-amd64 2>/dev/null |
                sed -n 's/^Depends:.*\(linux-image-[0-9][^ ,]*-amd64\).*/\1/p' | head -n 1
}

download_kernel()
{
        if [ "$(id -u)" -eq 0 ]; then
                (cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$2")
        else
                (cd "$1" && apt-get -qq download "$2")
        fi
}

# The uncompressed kernel starts seconds earlier under emulation than the bzImage, which unpacks
# itself there.  Boot protocol: setup_sects at 0x1f1, payload_offset at 0x248, payload_length at
# 0x24c.
unpack_vmlinux()
{
        sects=$(od -An -tu1 -j 497 -N 1 "$1" | tr -d ' ')
        offset=$(od -An -tu4 -j 584 -N 4 "$1" | tr -d ' ')
        length=$(od -An -tu4 -j 588 -N 4 "$1" | tr -d ' ')
        tail -c +$(((sects + 1) * 512 + offset + 1)) "$1" | head -c "$length" |
                xz -dc --single-stream >"$2" 2>/dev/null || :
        [ "$(od -An -tx1 -N 4 "$2" | tr -d ' ')" = 7f454c46 ] || {
                rm -f "$2"
                say "the kernel's payload is not an xz of an ELF file, keeping the bzImage alone"
        }
}

# module_file TREE NAME: modules are named with - or _ at will.
module_file()
{
        find "$1/lib/modules" -type f -name "$(echo "$2" | sed 's/[-_]/[-_]/g').ko*" | head -n 1
}

# is_builtin TREE NAME
is_builtin()
{
        cat "$1"/lib/modules/*/modules.builtin | tr - _ | grep -q "/$(echo "$2" | tr - _)\.ko\$"
}

# add_module TREE NAME DIR: keeps the module in DIR, after those that it depends on.
add_module()
{
        case " $added " in *" $2 "*) return 0 ;; esac
        added="$added $2"

        file=$(module_file "$1" "$2")
        [ -n "$file" ] || ! is_builtin "$1" "$2" || return 0
        [ -n "$file" ] || fail "the kernel package has no module $2"
        for dependency in $(modinfo -F depends "$file" | tr ',' ' '); do
                add_module "$1" "$dependency" "$3"
        done

        file=$(module_file "$1" "$2")
        plain=$(basename "$file" | sed 's/\.ko.*/.ko/')
        case $file in
        *.ko) cp "$file" "$3/modules/$plain" ;;
        *.ko.xz) xz -dc "$file" >"$3/modules/$plain" ;;
        *.ko.gz) gzip -dc "$file" >"$3/modules/$plain" ;;
        *) fail "$file: compressed in a way that this script does not know" ;;
        esac
        echo "$plain" >>"$3/modules.load"
}

# keep_kernel FOLDER NAME: of the package in FOLDER
keep_kernel()
{
        package=$(dpkg-deb -f "$1"/linux-image-*.deb Package)
        release=${package#linux-image-}
        echo "setup: unpacking the kernel $release into $cache"
        mkdir -p "$1/tree" "$1/keep/modules"
        dpkg-deb -x "$1"/linux-image-*.deb "$1/tree"
        cp "$1/tree/boot/vmlinuz-$release" "$1/keep/vmlinuz"
        unpack_vmlinux "$1/keep/vmlinuz" "$1/keep/vmlinux"

        added=
        for m in $kernel_modules; do
                add_module "$1/tree" "$m" "$1/keep"
        done
        echo "$release" >"$1/keep/release"

        # Another call may have been quicker: theirs is as good.
        chmod -R a+rX "$1/keep"
        [ -d "$cache/linux/$release" ] || mv "$1/keep" "$cache/linux/$release"
        ln -sfn "$release" "$cache/linux/$2"
}

# make_scratch NAME: a folder below the cache's NAME, until drop_scratch
make_scratch()
{
        mkdir -p "$cache/$1"
        scratch=$(mktemp -d "$cache/$1/.new.XXXXXX")
        # shellcheck disable=SC2064
        trap "rm -rf '$scratch'" EXIT
}

drop_scratch()
{
        rm -rf "$scratch"
        trap - EXIT
}

need_kernel()
{
        kernel_is_cached current && return 0

        make_scratch linux
        package=$(kernel_package)
        if [ -z "$package" ] || ! download_kernel "$scratch" "$package" >/dev/null 2>&1; then
                update_index
                package=$(kernel_package)
                [ -n "$package" ] || fail "apt knows no linux-image-amd64"
                download_kernel "$scratch" "$package" || fail "cannot download $package"
        fi
        keep_kernel "$scratch" current
        drop_scratch
}

qemu_is_cached()
{
        [ -x "$cache/qemu/current/qemu-system-x86_64" ]
}

# Where this machine gets Debian 12 from; nothing when apt does not know
debian_mirror()
{
        # The format is apt's.
        # shellcheck disable=SC2016
        apt-get indextargets --format '$(REPO_URI)|$(CODENAME)|$(COMPONENT)' \
                'Created-By: Packages' 2>/dev/null | sed -n 's/|bookworm|main$//p' | head -n 1
}

# Lists of what backports have, in $scratch, and the options of apt for them alone
update_backports()
{
        mirror=$(debian_mirror)
        [ -n "$mirror" ] || return 1
        mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror" \
                "bookworm-backports main" >"$scratch/sources.list"
        backports="-o Dir::Etc::SourceList=$scratch/sources.list -o Dir::Etc::SourceParts=/dev/null
                -o Dir::State::Lists=$scratch/lists -o Dir::Cache=$scratch/cache
                -o APT::Default-Release=bookworm-backports -o APT::Sandbox::User=$(id -un)
                -o Acquire::Retries=1 -o Acquire::http::Timeout=20"
        backports_get update
}

# The options are words on purpose.
# shellcheck disable=SC2086
backports_get()
{
        (cd "$scratch" && apt-get -qq $backports "$@") >/dev/null 2>&1
}

# The files of a QEMU that the emulated host needs. It runs with the libraries that Debian 12's own
# QEMU has brought.
unpack_qemu()
{
        for deb in "$1"/*.deb; do
                dpkg-deb -x "$deb" "$1/tree" || return 1
        done
        mkdir "$1/keep" || return 1
        for file in bin/qemu-system-x86_64 share/qemu/linuxboot_dma.bin share/qemu/linuxboot.bin \
                share/qemu/kvmvapic.bin share/qemu/pvh.bin share/seabios/bios-256k.bin; do
                cp "$1/tree/usr/$file" "$1/keep" || return 1
        done
        ! ldd "$1/keep/qemu-system-x86_64" | grep -q 'not found' &&
                "$1/keep/qemu-system-x86_64" --version >"$1/keep/version"
}

keep_qemu()
{
        version=$(sed -n '1s/.*version \([0-9.]*\).*/\1/p' "$1/keep/version")
        echo "setup: unpacking QEMU $version into $cache"
        chmod -R a+rX "$1/keep"
        [ -d "$cache/qemu/$version" ] || mv "$1/keep" "$cache/qemu/$version"
        ln -sfn "$version" "$cache/qemu/current"
}

# Debian 12's own QEMU forgets what a nested guest's XSETBV wrote, and some other things.
need_qemu()
{
        qemu_is_cached && return 0

        make_scratch qemu
        if update_backports &&
                backports_get download qemu-system-x86 qemu-system-data seabios &&
                unpack_qemu "$scratch"; then
                keep_qemu "$scratch"
        else
                echo "setup: no QEMU of bookworm-backports: the emulated host has Debian 12's," \
                        "and no AVX" >&2
        fi
        drop_scratch
}

# vtld is for kernels that are newer than Debian 12's, too.
need_newer_kernel()
{
        kernel_is_cached backports && return 0

        make_scratch linux
        # shellcheck disable=SC2086
        if update_backports && package=$(kernel_package $backports) && [ -n "$package" ] &&
                backports_get download "$package"; then
                keep_kernel "$scratch" backports
        else
                echo "setup: no kernel of bookworm-backports: the part newer is skipped" >&2
        fi
        drop_scratch
}

if [ $print_missing = yes ]; then
        # shellcheck disable=SC2086
        missing_packages $build_packages $test_packages $optional_packages
        kernel_is_cached current || echo "kernel (linux-image-amd64, unpacked in $cache)"
        kernel_is_cached backports || echo "kernel (of bookworm-backports, unpacked in $cache)"
        qemu_is_cached || echo "QEMU (of bookworm-backports, unpacked in $cache)"
        exit 0
fi

if [ "$kernel_only" = no ]; then
        command -v apt-get >/dev/null ||
                fail "no apt-get here: install by hand what --print-missing names on Debian 12"
        need_packages
fi
need_kernel
need_newer_kernel
need_qemu
say "ready: all packages are installed, kernel $(cat "$cache/linux/current/release") is in $cache"
