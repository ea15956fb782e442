#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Installs the packages that the other scripts need, on Debian and its derivatives. Elsewhere it
# prints what is missing. The sets are build, demo, test and bench.
# Usage: packages.sh SET...
set -eu

packages_of()
{
    case $1 in
    build)
        echo build-essential clang llvm meson ninja-build pkg-config libbpf-dev libelf-dev \
            zlib1g-dev libc-ares-dev libevent-dev libjson-c-dev libinih-dev libncurses-dev libssl-dev \
            libsystemd-dev linux-libc-dev bpftool scdoc
        ;;
    demo)
        echo iproute2 util-linux procps curl nginx-light
        ;;
    test)
        echo libcmocka-dev clang-format clang-tidy libclang-rt-14-dev shellcheck python3 \
            python3-pytest python3-pytest-xdist python3-yaml iproute2 util-linux procps iptables \
            nftables e2fsprogs mount curl wget git nginx-light openssh-server openssh-client \
            redis-server redis-tools netcat-openbsd wrk haproxy redsocks microsocks man-db openssl \
            default-jdk-headless golang-go strace systemd zsh fish tmux \
            squid tinyproxy dante-server libnginx-mod-stream \
            rpm rpmlint makepkg prometheus chromium-headless-shell tcpdump tshark \
            nmap postgresql-client
        # Packages of nodejs that are not Debian's contain npm, and conflict with Debian's package.
        command -v npm > /dev/null || echo npm
        ;;
    bench)
        echo python3 iproute2 util-linux procps iptables bpftool haproxy nginx-light wrk redsocks \
            dante-server microsocks tinyproxy openssl proxychains4 tcpdump nftables xdp-tools
        ;;
    *)
        echo "packages.sh: no set '$1'" >&2
        exit 2
        ;;
    esac
}

missing=
for set in "$@"; do
    for package in $(packages_of "$set"); do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed ||
            missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get > /dev/null; then
    echo "packages.sh: please install the counterparts of:$missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "packages.sh: not installed, and only root can:$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Services of these packages must not start: install a policy-rc.d that denies it, unless there is
# one.
policy=/usr/sbin/policy-rc.d
if ! [ -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$log" "$policy"' EXIT
fi
# shellcheck disable=SC2086 # a list of names
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } > "$log" 2>&1
then
    cat "$log" >&2
    exit 1
fi
