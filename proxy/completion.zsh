#compdef tproxy-relay
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# zsh completion for tproxy-relay(8)

_arguments -s -S \
    '(-p --pin-dir)'{-p+,--pin-dir=}'[where tproxy-load pinned]:directory:_files -/' \
    '*'{-l+,--listen=}'[address to listen on]:ADDR\:PORT: ' \
    '(-w --workers)'{-w+,--workers=}'[worker threads]:N: ' \
    '--listeners=[listening sockets of each worker]:N: ' \
    '--backlog=[clients that wait at each]:N: ' \
    '--busy-poll=[microseconds to look for events before sleeping]:N: ' \
    '--connect-timeout=[to reach the destination]:DURATION: ' \
    '--idle-timeout=[without a byte either way]:DURATION: ' \
    '--half-closed-timeout=[the same, once one side has ended]:DURATION: ' \
    '--keepalive-time=[silence after which a server is probed]:DURATION: ' \
    '--drain-timeout=[for running connections after SIGTERM]:DURATION: ' \
    '--drain-in-background[end at once on SIGTERM, let a child drain]' \
    '--max-connections=[connections at a time]:N: ' \
    '--max-per-cgroup=[connections at a time of one cgroup]:N: ' \
    '--buffer-size=[memory for each direction of a slow connection]:SIZE: ' \
    '--pipe-size=[pipes for bulk transfers]:SIZE: ' \
    '--error-memory=[how long an unreachable destination fails at once]:DURATION: ' \
    '--pass-mark[connect with the SO_MARK of the client]' \
    '(-f --config)'{-f+,--config=}'[read options from a file]:file:_files' \
    '--check[check options and file, change nothing]' \
    '--connection-log=[a line for each connection]:format:(text json none)' \
    '(-v --verbose)'{-v,--verbose}'[log more]' \
    '(-h --help)'{-h,--help}'[print a summary of the options]' \
    '--version[print the version]'
