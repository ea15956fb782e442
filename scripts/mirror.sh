#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Prints the mirror from which this machine's apt takes a suite of its distribution, such as
# "bookworm" or "bookworm-security", as debootstrap and sources.list name it. apt itself is asked:
# first for the indexes that it has downloaded, whose origin is known; without any, for what it
# would download. Of a list of mirrors ("mirror+file:") the first one is taken.
# Exits 1 if apt has no such suite. Usage: mirror.sh SUITE
set -eu

PATH=/usr/sbin:/usr/bin:/sbin:/bin
if [ $# -ne 1 ] || [ -z "$1" ]; then
    echo "Usage: mirror.sh SUITE" >&2
    exit 2
fi
suite=$1
if ! command -v apt-get > /dev/null; then
    echo "mirror.sh: this machine has no apt" >&2
    exit 1
fi

# $ID is "debian" or "ubuntu", the origin of its archives "Debian" or "Ubuntu".
ID=debian
# shellcheck source=/dev/null
[ ! -r /etc/os-release ] || . /etc/os-release

downloaded()
{
    # shellcheck disable=SC2016 # apt's variables
    apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(SITE)' 'Created-By: Packages' |
        awk -v origin="$ID" -v suite="$suite" \
            'tolower($1) == tolower(origin) && $2 == suite { print $3; exit }'
}

# 'URI/dists/SUITE/InRelease' FILE SIZE
configured()
{
    apt-get update --print-uris | awk -v end="/dists/$suite/InRelease" -v q="'" '
        { gsub(q, "", $1); at = length($1) - length(end) }
        !found && at > 0 && substr($1, at + 1) == end { print substr($1, 1, at); found = 1 }'
}

# A list names a mirror in each line, perhaps with properties after a tab.
first_of_list()
{
    case $1 in
    mirror+file:*)
        list=${1#mirror+file:}
        awk '!/^[ \t]*(#|$)/ { sub(/\/$/, "", $1); print $1; exit }' "/${list#"${list%%[!/]*}"}"
        ;;
    *) echo "$1" ;;
    esac
}

mirror=$(downloaded)
[ -n "$mirror" ] || mirror=$(configured)
[ -z "$mirror" ] || mirror=$(first_of_list "$mirror")
if [ -z "$mirror" ]; then
    echo "mirror.sh: this machine's apt has no mirror of '$suite'" >&2
    exit 1
fi
echo "$mirror"
