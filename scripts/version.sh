#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Prints the version of this tree: VERSION in a release archive, and in the repository at the tag
# vVERSION; at another commit of the repository VERSION+gHASH, with ".dirty" if files are changed.
# Usage: version.sh VERSION    VERSION: that of meson.build
set -u

version=${1:?}
cd "$(dirname "$0")/.." || exit 2

# The repository may be another user's: root installs what a user has built.
ask_git()
{
    git -c safe.directory="$PWD" "$@" 2> /dev/null
}

# An archive may be unpacked inside of another repository.
if ! command -v git > /dev/null || [ "$(ask_git rev-parse --show-toplevel)" != "$(pwd -P)" ]; then
    echo "$version"
    exit 0
fi
hash=$(ask_git rev-parse --short=12 HEAD) || hash=
dirty=
[ -z "$(ask_git status --porcelain --untracked-files=no)" ] || dirty=.dirty
if [ -z "$hash" ] ||
    { [ -z "$dirty" ] && ask_git tag --points-at HEAD | grep -qxF "v$version"; }; then
    echo "$version"
else
    echo "$version+g$hash$dirty"
fi
