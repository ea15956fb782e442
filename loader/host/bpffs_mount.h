/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The BPF file system in which a pin directory lies: whether there is one, and mounting it. */
#ifndef TPROXY_HOST_BPFFS_MOUNT_H
#define TPROXY_HOST_BPFFS_MOUNT_H

#include <limits.h>
#include <stdbool.h>

/* Where a BPF file system usually is. tproxy-load mounts one there if necessary. */
#define BPFFS_MOUNT_DEFAULT "/sys/fs/bpf"

/* Returns true if @path exists and is in a BPF file system. */
bool bpffs_mount_holds(const char *path);

/* Writes the directory above the pin directory @path. Returns 0 or -ENAMETOOLONG, not logged. */
int bpffs_mount_parent(const char *path, char ret_parent[PATH_MAX]);

/*
 * Writes the parent of the pin directory @path. Returns 0 if the parent is in a BPF file system, or
 * 1 if it is /sys/fs/bpf and none is mounted there yet. Returns -errno, logged, otherwise.
 */
int bpffs_mount_find(const char *path, char ret_parent[PATH_MAX]);

/*
 * Mounts a BPF file system if the parent of the pin directory @path is /sys/fs/bpf and none is
 * mounted there. Returns 0 if the parent is in one afterwards, or -errno, logged.
 */
int bpffs_mount_need(const char *path);

#endif
