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
