# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# For the parts that run test guests: reads tests/parts/guest-list.

: "${srcdir:?}"
guest_seconds=120

# guest_tests_for PRECISE FPU PREFIX RUN FOLDER: sets guest_tests to NAME=COMMAND of each guest of the
# list; of one that this host cannot run the command says why. NAME is what stands in the list, the
# image is named like what comes before its "@".
# PRECISE and FPU are 1 or 0, RUN is the command before vtlrun's options, FOLDER has the images.
guest_tests_for()
{
        local precise=$1 fpu=$2 prefix=$3 run=$4 folder=$5 guest needs options append why runner
        local seconds=60

        [ -z "${VTLD_QUICK:-}" ] || seconds=10

        guest_tests=()
        while read -r guest needs options; do
                case $guest in
                ''|'#'*) continue ;;
                esac
                append=$(echo "${options#*|}" | xargs)
                append=${append//@precise@/$precise}
                append=${append//@fpu@/$fpu}
                append=${append//@seconds@/$seconds}
                options=$(echo "${options%%|*}" | xargs)
                [ -z "$append" ] || options="$options --append '$append'"

                why=
                runner=$run
                case ,$needs, in
                *,precise,*)
                        [ "$precise" = 1 ] || why="this KVM's faults do not show their instruction"
                        ;;
                *,fpu,*)
                        [ "$fpu" = 1 ] || why="this KVM runs no SSE code of a guest"
                        ;;
                *,native,*)
                        [ "$precise" = 1 ] || why="this KVM emulates its guests, too slowly for this one"
                        ;;
                esac
                case ,$needs, in
                *,saved,*) runner=${run/run-guest/run-saved} ;;
                esac
                if [ -n "$why" ]; then
                        guest_tests+=("$prefix$guest=echo \"1..0 # SKIP $why\"")
                else
                        guest_tests+=("$prefix$guest=$runner --timeout $guest_seconds $options $folder/${guest%%@*}.elf")
                fi
        done <"$srcdir/tests/parts/guest-list"
}

# emulated_guests PREFIX [GUEST]...: sets guest_tests to those of the list in the emulated host, or to
# these of it, and files to the options of run-tests that they need
emulated_guests()
{
        local prefix=$1 guest command wanted n

        shift
        guest_tests_for 1 1 "$prefix" "/vtld/run-guest /vtld/vtlrun --engine=in-process" /vtld/guests
        if [ $# -gt 0 ]; then
                wanted=()
                for guest in "$@"; do
                        n=${#wanted[@]}
                        for command in "${guest_tests[@]}"; do
                                [ "${command%%=*}" != "$prefix$guest" ] || wanted+=("$command")
                        done
                        [ ${#wanted[@]} -gt "$n" ] || wanted+=("$prefix$guest=echo '# not in the list'; false")
                done
                guest_tests=("${wanted[@]}")
        fi
        files=(--file "$srcdir/tests/parts/run-guest=/vtld/run-guest"
                --file "$srcdir/tests/parts/run-saved=/vtld/run-saved" --file "$builddir/vtlrun=/vtld/vtlrun")
        for guest in $(make -s --no-print-directory -C "$builddir" print-guests); do
                files+=(--file "$builddir/$guest=/vtld/guests/$(basename "$guest")")
        done
}

# emulated_linux PREFIX INITRAMFS FORM...: adds a stock Linux, whose kernel is the host's own
emulated_linux()
{
        local prefix=$1 initramfs=$2 form
        local kernel=${VTLD_CACHE:-${HOME:-/root}/.cache/vtld}/linux/${VTLD_KERNEL:-current}/vmlinuz

        shift 2
        if [ ! -e "$kernel" ] || ! "$srcdir/tests/host/mkinitramfs.sh" --l2 "$initramfs"; then
                guest_tests+=("${prefix}linux=echo '1..0 # SKIP no kernel or initramfs for the guest'")
                return
        fi
        files+=(--file "$srcdir/tests/host/test-linux.sh=/vtld/test-linux.sh"
                --file "$srcdir/tests/tap.sh=/vtld/tap.sh"
                --file "$kernel=/vtld/vmlinuz" --file "$initramfs=/vtld/initramfs")
        for form in "$@"; do
                guest_tests+=("${prefix}linux-$form=sh /vtld/test-linux.sh $form /vtld/vtlrun /vtld/vmlinuz /vtld/initramfs")
        done
}
