/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Objects pinned in a BPF file system, as both programs open them. */
#ifndef TPROXY_BPFFS_H
#define TPROXY_BPFFS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Opens map NAME in the pin directory. The caller owns *ret_fd, which is close-on-exec.
 * Returns -ENOENT (not pinned), -EACCES/-EPERM (not ours to open), -EPROTO (a map, but not with
 * keys and values of these sizes: other pins than ours). writable = false opens it read-only, which
 * is all that a file mode of 0640 grants a group.
 */
int bpffs_open_map(const char *pin_dir, const char *name, uint32_t key_size, uint32_t value_size,
		   bool writable, int *ret_fd);

/*
 * Reads what is loaded there: *ret_version is its abi_version, which may be any. Errors as above.
 */
int bpffs_abi_version(const char *pin_dir, uint32_t *ret_version);

/* The kernel's number of a map, which no other map gets while the system runs. */
int bpffs_map_id(int map_fd, uint32_t *ret_id);

/*
 * Has entries of our network namespace that have lost their socket found and removed. Needs root;
 * without it, or without what is pinned, nothing is done.
 */
void bpffs_sweep(const char *pin_dir);

#endif
