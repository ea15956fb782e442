#compdef tproxy-load
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# zsh completion for tproxy-load(8)

_arguments -s -S \
    '*'{-c+,--cgroup=}'[redirect processes in and below it]:directory:_files -/' \
    '--all[redirect all processes]' \
    '(-r --relay-cgroup)'{-r+,--relay-cgroup=}'[where relays live]:directory:_files -/' \
    '(-g --relay-group)'{-g+,--relay-group=}'[who may register a relay]:group:_groups' \
    '(-p --pin-dir)'{-p+,--pin-dir=}'[where to pin, in a BPF file system]:directory:_files -/' \
    '(-f --config)'{-f+,--config=}'[read options from a file]:file:_files' \
    '--check[check options and files, change nothing]' \
    '--fail-closed[refuse connections that no relay can take]' \
    '--include-loopback[redirect connections to loopback too]' \
    '--again[load with the options of the last load]' \
    '--force[load also where that stops programs of others]' \
    '--unload[detach and remove all that was pinned]' \
    '--status[print what is loaded and attached]' \
    '--json[with --status: as JSON]' \
    '(-v --verbose)'{-v,--verbose}'[log each step]' \
    '(-h --help)'{-h,--help}'[print a summary of the options]' \
    '--version[print the version]'
