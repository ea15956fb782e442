# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# bash completion for tproxy-load(8)

_tproxy_load()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}

    # "=" is in COMP_WORDBREAKS, so an option and its value behind "=" are three words.
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ] && [ "$COMP_CWORD" -gt 2 ]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    COMPREPLY=()
    case $prev in
        -c | --cgroup | -r | --relay-cgroup | -p | --pin-dir)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        -f | --config)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        -g | --relay-group)
            mapfile -t COMPREPLY < <(compgen -g -- "$cur")
            return
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W '
        -c --cgroup --all -r --relay-cgroup -g --relay-group -p --pin-dir
        -f --config --check --fail-closed --include-loopback --again --force --unload --status --json
        -v --verbose -h --help --version' -- "$cur")
}

complete -F _tproxy_load tproxy-load
