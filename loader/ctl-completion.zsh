#compdef tproxyctl
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# zsh completion for tproxyctl(8)

local -a commands options
if (( CURRENT == 2 )); then
    commands=(
        'status:what is loaded, attached and registered; counters'
        'connections:the redirected connections that are alive'
        'doctor:what is wrong with this host'
        'register:make the listeners of another proxy the relay'
        'help:print help'
        'version:print the version'
    )
    if [[ $PREFIX == -* ]]; then
        _arguments '(-h --help)'{-h,--help}'[print a summary of the options]' \
            '--version[print the version]'
    else
        _describe command commands
    fi
    return
fi
options=(
    '(-p --pin-dir)'{-p+,--pin-dir=}'[where tproxy-load has pinned]:directory:_files -/'
    '--json[as JSON]'
    '(-h --help)'{-h,--help}'[print a summary of the options]'
)
case $words[2] in
doctor)
    options+=(
        '*'{-c+,--cgroup=}'[look at this cgroup]:directory:_files -/'
        '--strict[fail for warnings too]'
    )
    ;;
register)
    options+=(
        '--pid=[process of the proxy]:PID:_pids'
        '--port=[port that it listens on]:N: '
        '--remove[take the registration back]'
    )
    ;;
esac
_arguments -s -S ':command: ' $options
