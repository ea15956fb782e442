# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# fish completion for tproxyctl(8)

complete -c tproxyctl -f
complete -c tproxyctl -n __fish_use_subcommand -a status -d 'what is loaded, attached and registered; counters'
complete -c tproxyctl -n __fish_use_subcommand -a connections -d 'the redirected connections that are alive'
complete -c tproxyctl -n __fish_use_subcommand -a doctor -d 'what is wrong with this host'
complete -c tproxyctl -n __fish_use_subcommand -a register -d 'make the listeners of another proxy the relay'
complete -c tproxyctl -n __fish_use_subcommand -a help -d 'print help'
complete -c tproxyctl -n __fish_use_subcommand -a version -d 'print the version'
complete -c tproxyctl -n __fish_use_subcommand -l version -d 'print the version'
complete -c tproxyctl -s h -l help -d 'print a summary of the options'
complete -c tproxyctl -n '__fish_seen_subcommand_from status connections doctor register' -s p -l pin-dir -x -a '(__fish_complete_directories)' -d 'where tproxy-load has pinned'
complete -c tproxyctl -n '__fish_seen_subcommand_from status connections doctor register' -l json -d 'as JSON'
complete -c tproxyctl -n '__fish_seen_subcommand_from doctor' -s c -l cgroup -x -a '(__fish_complete_directories)' -d 'look at this cgroup'
complete -c tproxyctl -n '__fish_seen_subcommand_from doctor' -l strict -d 'fail for warnings too'
complete -c tproxyctl -n '__fish_seen_subcommand_from register' -l pid -x -a '(__fish_complete_pids)' -d 'process of the proxy'
complete -c tproxyctl -n '__fish_seen_subcommand_from register' -l port -x -d 'port that it listens on'
complete -c tproxyctl -n '__fish_seen_subcommand_from register' -l remove -d 'take the registration back'
