# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# bash completion for tproxy-relay(8)

_tproxy_relay()
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
        -p | --pin-dir)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        -f | --config)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --connection-log)
            mapfile -t COMPREPLY < <(compgen -W 'text json none' -- "$cur")
            return
            ;;
        -l | --listen | -w | --workers | --listeners | --connect-timeout | --idle-timeout | \
            --half-closed-timeout | --drain-timeout | --error-memory | --max-connections | \
            --max-per-cgroup | --backlog | --busy-poll | --keepalive-time | --buffer-size | --pipe-size)
            return
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W '
        -p --pin-dir -l --listen -w --workers --listeners
        --backlog --busy-poll --buffer-size --pipe-size --keepalive-time
        --connect-timeout --idle-timeout --half-closed-timeout --drain-timeout
        --drain-in-background --error-memory --max-connections
        --max-per-cgroup --pass-mark --connection-log -f --config --check -v --verbose -h --help --version' -- "$cur")
}

complete -F _tproxy_relay tproxy-relay
