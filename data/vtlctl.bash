# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# Completion of vtlctl(1) for bash.

_vtlctl()
{
        local cur=${COMP_WORDS[COMP_CWORD]} verb= bus=() word i

        for ((i = 1; i < COMP_CWORD; i++)); do
                word=${COMP_WORDS[i]}
                case $word in
                --bus=*) bus=("$word") ;;
                --bus) bus=("$word=${COMP_WORDS[i + 1]-}") ;;
                -* | =) ;;
                *) [ -n "$verb" ] || verb=$word ;;
                esac
        done

        COMPREPLY=()
        if [[ $cur == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W '--json --bus= --version --help' -- "$cur")
                [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
                return
        fi
        case $verb in
        '') mapfile -t COMPREPLY < <(compgen -W 'list status vp monitor' -- "$cur") ;;
        status | vp)
                # UUIDs: a name may hold spaces, and need not be unique.
                mapfile -t COMPREPLY < <(compgen -W \
                        "$(vtlctl "${bus[@]}" list 2>/dev/null | sed -n '2,$s/ .*//p')" -- "$cur")
                ;;
        esac
}

complete -F _vtlctl vtlctl
