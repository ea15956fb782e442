/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Access to objects pinned in a BPF file system, for the tools and the relay. pin_dir is the path
 * of the pin directory, without a trailing slash. Functions that can fail return 0 or -errno, log
 * nothing, and leave ret_* unchanged on failure.
 */
#ifndef TPROXY_BPFFS_H
#define TPROXY_BPFFS_H

#include <stdbool.h>
#include <stdint.h>

#include "objects.h"

/*
 * Opens a pinned map. The caller owns *ret_fd, which is close-on-exec. writable = false opens the
 * map read-only, which is all that file mode 0640 grants the group. Returns -ENOENT (not pinned),
 * -EACCES or -EPERM (no permission), or -EPROTO (a map whose key or value has another size: pins of
 * another version, or of another program).
 */
int bpffs_open_map(const char *pin_dir, enum pinned_map_id id, bool writable, int *ret_fd);

/* Reads abi_version of the loaded programs from map_policy, whatever it is. Errors as above. */
int bpffs_abi_version(const char *pin_dir, uint32_t *ret_version);

/* Reads the kernel's id of a map. The kernel gives it to no other map until the next boot. */
int bpffs_map_id(int map_fd, uint32_t *ret_id);

/*
 * Runs a pass of the sweep (bpf/sweep.bpf.h) in the caller's network namespace: stale entries are
 * deleted. Needs root. Without root, or without the pinned program, it does nothing.
 */
void bpffs_sweep(const char *pin_dir);

#endif
