# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# bash completion for tproxyctl(8)

_tproxyctl()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words

    # "=" is in COMP_WORDBREAKS, so an option and its value behind "=" are three words.
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ] && [ "$COMP_CWORD" -gt 2 ]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    COMPREPLY=()
    case $prev in
        -c | --cgroup | -p | --pin-dir)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        --pid)
            mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$cur")
            return
            ;;
        --port)
            return
            ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='status connections doctor register help version -h --help --version'
    else
        words='-p --pin-dir --json -h --help'
        [ "${COMP_WORDS[1]}" = doctor ] && words+=' -c --cgroup --strict'
        [ "${COMP_WORDS[1]}" = register ] && words+=' --pid --port --remove'
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _tproxyctl tproxyctl
