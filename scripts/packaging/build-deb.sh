#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Builds the Debian package, in a temporary copy of this tree with debian/ at its top, and runs
# lintian on it, any finding of which is an error. Prints the path of the .deb as the last line.
# Installs what it needs if run by root.
# Usage: build-deb.sh [-o DIR] [-v VERSION]    DIR: where the package goes, "." by default;
#                                              VERSION: another one than the changelog's
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
out=$PWD
version=
while getopts o:v: option; do
    case $option in
    o) out=$(mkdir -p "$OPTARG" && cd "$OPTARG" && pwd) ;;
    v) version=$OPTARG ;;
    *)
        echo "Usage: build-deb.sh [-o DIR] [-v VERSION]" >&2
        exit 2
        ;;
    esac
done
cd "$(dirname "$0")/../.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

install_packages()
{
    missing=
    for package in debhelper dpkg-dev fakeroot lintian build-essential clang meson bpftool \
        libbpf-dev libc-ares-dev libelf-dev libevent-dev libinih-dev libjson-c-dev libncurses-dev \
        libssl-dev libsystemd-dev linux-libc-dev pkg-config scdoc; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "build-deb.sh: not installed, and only root can:$missing" >&2
        exit 1
    fi
    # shellcheck disable=SC2086 # a list of names
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $missing; } > "$tmp/apt.log" 2>&1 || {
        cat "$tmp/apt.log" >&2
        exit 1
    }
}

# Copies the files of the project: those that git tracks or would add; without git, all but build
# directories.
copy_tree()
{
    mkdir "$tmp/tproxy"
    if git rev-parse --git-dir > "$tmp/git" 2> /dev/null; then
        git ls-files -z -co --exclude-standard
    else
        find . -path './build*' -prune -o -type f -print0
    fi | tar -c --null --files-from=- --ignore-failed-read | tar -x -C "$tmp/tproxy"
    cp -R scripts/packaging/debian "$tmp/tproxy/debian"
}

set_version()
{
    {
        sed -n 1p debian/changelog
        printf 'tproxy (%s) UNRELEASED; urgency=medium\n\n  * Built by build-deb.sh.\n\n' "$1"
        sed -n 's/^ -- .*/&\n/p;T;q' debian/changelog
        sed 1d debian/changelog
    } > "$tmp/changelog"
    mv "$tmp/changelog" debian/changelog
}

install_packages
copy_tree
cd "$tmp/tproxy"
[ -z "$version" ] || set_version "$version"
if ! dpkg-buildpackage -us -uc -b > "$tmp/build.log" 2>&1; then
    cat "$tmp/build.log" >&2
    exit 1
fi
cd "$tmp"
echo "lintian: any finding fails"
# The package is not uploaded to Debian, whose first uploads close a bug.
lintian --fail-on error,warning,info --display-info --allow-root \
    --suppress-tags initial-upload-closes-no-bugs tproxy_*.changes
mv tproxy*.deb "$out"
deb=$(dpkg-parsechangelog -l "$tmp/tproxy/debian/changelog" -S Version)
ls "$out/tproxy_${deb}_"*.deb
