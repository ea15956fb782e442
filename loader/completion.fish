# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# fish completion for tproxy-load(8)

complete -c tproxy-load -f
complete -c tproxy-load -s c -l cgroup -x -a '(__fish_complete_directories)' -d 'redirect processes in and below it'
complete -c tproxy-load -l all -d 'redirect all processes'
complete -c tproxy-load -s r -l relay-cgroup -x -a '(__fish_complete_directories)' -d 'where relays live'
complete -c tproxy-load -s g -l relay-group -x -a '(__fish_complete_groups)' -d 'who may register a relay'
complete -c tproxy-load -s p -l pin-dir -x -a '(__fish_complete_directories)' -d 'where to pin, in a BPF file system'
complete -c tproxy-load -s f -l config -r -F -d 'read options from a file'
complete -c tproxy-load -l check -d 'check options and files, change nothing'
complete -c tproxy-load -l fail-closed -d 'refuse connections that no relay can take'
complete -c tproxy-load -l include-loopback -d 'redirect connections to loopback too'
complete -c tproxy-load -l again -d 'load with the options of the last load'
complete -c tproxy-load -l force -d 'load also where that stops programs of others'
complete -c tproxy-load -l unload -d 'detach and remove all that was pinned'
complete -c tproxy-load -l status -d 'print what is loaded and attached'
complete -c tproxy-load -l json -d 'with --status: as JSON'
complete -c tproxy-load -s v -l verbose -d 'log each step'
complete -c tproxy-load -s h -l help -d 'print a summary of the options'
complete -c tproxy-load -l version -d 'print the version'
