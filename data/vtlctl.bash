# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# Completion of vtlctl(1) for bash.

_vtlctl()
{
        local cur=${COMP_WORDS[COMP_CWORD]} verb='' act='' names=0 bus=() connect=() words=() glue='' word i
        local options option=''

        # bash splits --connect=qemu:///system at = and :.
        for ((i = 1; i < COMP_CWORD; i++)); do
                word=${COMP_WORDS[i]}
                if [[ $word =~ ^[=:]+$ && ${#words[@]} -gt 0 ]]; then
                        words[-1]+=$word
                        glue=yes
                elif [ -n "$glue" ]; then
                        words[-1]+=$word
                        glue=
                else
                        words+=("$word")
                fi
        done
        # Is this the value of an option? Its "=" may be the word that is completed.
        if [ -n "$glue" ]; then
                option=${words[-1]%%=*}
        elif [ "$cur" = = ] && [ ${#words[@]} -gt 0 ]; then
                option=${words[-1]}
                cur=
        fi
        for ((i = 0; i < ${#words[@]}; i++)); do
                word=${words[i]}
                case $word in
                --bus=*) bus=("$word") ;;
                --connect=*) connect=("$word") ;;
                --bus)
                        i=$((i + 1))
                        bus=("$word=${words[i]-}")
                        ;;
                --connect)
                        i=$((i + 1))
                        connect=("$word=${words[i]-}")
                        ;;
                -*) ;;
                *)
                        if [ -z "$verb" ]; then
                                verb=$word
                        elif [ -z "$act" ]; then
                                act=$word
                        else
                                names=$((names + 1))
                        fi
                        ;;
                esac
        done

        COMPREPLY=()
        case $option in
        --format) mapfile -t COMPREPLY < <(compgen -W 'text json perfetto' -- "$cur") ;;
        --key | --config | --probe | --output | --svg) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        --keys-directory | --root) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        esac
        [ -z "$option" ] || return 0
        if [[ $cur == -* ]]; then
                options='--json --bus= --version --help'
                [[ $verb != @(|domain) ]] || options+=' --connect='
                [ "$verb" != policy ] || options+=' --config= --keys-directory='
                case $verb/$act in
                policy/sign | policy/verify) options+=' --key=' ;;
                top/*) options+=' --interval= --count=' ;;
                map/*) options+=' --svg --svg=' ;;
                registers/*) options+=' --vp= --vtl=' ;;
                trace/*) options+=' --format= --output= --vp= --count= --seconds=' ;;
                check-host/*) options+=' --config= --root= --probe=' ;;
                quote/verify) options+=' --key= --nonce=' ;;
                quote/*) options+=' --nonce= --output=' ;;
                policy/explain)
                        options+=' --name= --uuid= --uid= --libvirt-domain= --libvirt-policy='
                        ;;
                esac
                mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
                [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
                return
        fi
        case $verb/$act in
        /)
                mapfile -t COMPREPLY < <(compgen -W \
                        'list status vp top monitor detach map registers trace quote check-host policy domain' -- "$cur")
                ;;
        policy/) mapfile -t COMPREPLY < <(compgen -W 'check show explain sign verify' -- "$cur") ;;
        policy/check | policy/sign | policy/verify | quote/verify)
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                ;;
        status/* | vp/* | top/* | detach/ | map/ | registers/ | trace/ | quote/ | policy/explain)
                # UUIDs: a name may hold spaces, and need not be unique.
                mapfile -t COMPREPLY < <(compgen -W \
                        "$(vtlctl "${bus[@]}" list 2>/dev/null | sed -n '2,$s/ .*//p')" -- "$cur")
                ;;
        domain/) mapfile -t COMPREPLY < <(compgen -W 'enable disable show' -- "$cur") ;;
        domain/*)
                # UUIDs, as above
                [ "$names" -ne 0 ] || mapfile -t COMPREPLY < <(compgen -W \
                        "$(vtlctl "${connect[@]}" domain show 2>/dev/null |
                                sed -n '2,$s/ .*//p')" -- "$cur")
                ;;
        esac
}

complete -F _vtlctl vtlctl
