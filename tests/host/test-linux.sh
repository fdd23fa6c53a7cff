#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test-linux.sh plain|levels|entry32 VTLRUN KERNEL INITRAMFS: a stock Linux as the guest of vtlrun, for
# the emulated host. The initramfs is that of mkinitramfs.sh --l2.

set -u

# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"

form=$1
vtlrun=$2
kernel=$3
initramfs=$4
output=$(mktemp)
kernel32=$(mktemp)
trap 'rm -f "$output" "$kernel32"' EXIT

# boot OPTION...: the kernel, its console goes to $output
boot()
{
        "$vtlrun" --timeout 120 --memory 256 --initrd "$initramfs" "$@" >"$output" 2>&1
        status=$?
        # A console ends its lines with both characters.
        tr -d '\r' <"$output" >"$output.text"
        mv "$output.text" "$output"
}

# says TEXT: the console has a line that ends with it
says()
{
        grep -q -e "$1\$" "$output" && return
        diag "no line ends with '$1' in:"
        diag "$(tail -n 40 "$output")"
        return 1
}

silent()
{
        ! grep -e "$1" "$output" >&2
}

# common OPTION...: what every form of this machine shows
common()
{
        boot --vcpus 2 "$@" "$kernel"
        is "$status" 1 "Linux boots and ends by the exit port"
        check "its init ran to the end" says "l2: init done"
        check "it found two processors" says "l2: online cpus 0-1"
}

plain()
{
        plan 5
        common --plain --append "console=ttyS0"
        check "it found KVM" says "Hypervisor detected: KVM"
        check "no driver of the machine's own devices complains" \
                silent "ttyS0.*overrun\|irq 4: nobody\|i8042.*rror\|rtc_cmos.*fail"
}

levels()
{
        plan 5
        common --engine=in-process --append "console=ttyS0 quiet"
        check "it found Hyper-V" says "Hypervisor detected: Microsoft Hyper-V"
        check "its clock is the reference TSC page" says "clocksource hyperv_clocksource_tsc_page"
}

# Without XLF_KERNEL_64 in the setup header there is only the 32-bit entry point. The whole input is there
# before the guest reads any of it, and is more than the UART's FIFO holds.
entry32()
{
        plan 2
        cp "$kernel" "$kernel32"
        printf '\0' | dd of="$kernel32" bs=1 seek=566 conv=notrunc 2>/dev/null
        # shellcheck disable=SC2016 # the guest's shell is to compute it
        printf 'echo "%s: $((6 * 7))"\nsleep 1\nport-exit\n' "from the shell of the guest" |
                boot --plain --append "console=ttyS0 quiet rdinit=/bin/sh" "$kernel32"
        check "the shell is given its input" says "from the shell of the guest: 42"
        check "the shell ends the guest" silent "vtlrun: timeout"
}

case $form in
plain|levels|entry32) $form ;;
*) echo "Bail out! no such form: $form" ;;
esac
finish
