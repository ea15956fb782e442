#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Run by "meson dist" on the tree that it is going to archive: gives all files the time of the
# commit, or SOURCE_DATE_EPOCH, and the modes of umask 022, so that one commit is always the same
# .tar.xz for the same user. (The header of a .tar.gz of meson has the time of its creation.)
set -eu

epoch=${SOURCE_DATE_EPOCH:-$(git -C "$MESON_SOURCE_ROOT" log -1 --format=%ct)}
chmod -R u=rwX,go=rX "$MESON_DIST_ROOT"
find "$MESON_DIST_ROOT" -exec touch -h -d "@$epoch" {} +
