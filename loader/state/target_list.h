/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The cgroups of the last load, as map_targets records them: path, id and role. A cgroup that is
 * removed and created again is another cgroup with another id, and only the path is the same.
 *
 * The interfaces of --xdp are in map_targets too. They have a list of their own here: the functions
 * with xdp in their names read the interfaces, the others the cgroups.
 */
#ifndef TPROXY_STATE_TARGET_LIST_H
#define TPROXY_STATE_TARGET_LIST_H

#include <stddef.h>

struct tproxy_target;

/*
 * Reads map_targets. *ret_list gets *ret_n entries, which may be 0; the caller frees it. Paths end
 * with a NUL. Returns 0 or -errno, not logged.
 */
int target_list_read(int map_fd, struct tproxy_target **ret_list, size_t *ret_n);
/* Opens map_targets in @pin_dir first; errors as of bpffs_open_map(). */
int target_list_read_pinned(const char *pin_dir, struct tproxy_target **ret_list, size_t *ret_n);

int target_list_read_xdp(int map_fd, struct tproxy_target **ret_list, size_t *ret_n);
int target_list_read_xdp_pinned(const char *pin_dir, struct tproxy_target **ret_list,
				size_t *ret_n);
/* Replaces the whole list. Returns 0 or -errno, not logged. */
int target_list_write(int map_fd, const struct tproxy_target *cgroups, size_t n,
		      const struct tproxy_target *xdp, size_t n_xdp);
/* Replaces the entry of the interface with that name. Returns -ENOENT if it is not in the list. */
int target_list_update_xdp(int map_fd, const struct tproxy_target *target);

enum target_state {
	TARGET_PRESENT,
	TARGET_ABSENT,	 /* no cgroup has that path now */
	TARGET_REPLACED, /* a cgroup with another id has that path */
	TARGET_UNKNOWN,	 /* this process cannot open it, or does not see all cgroups */
};

/* Compares the cgroup that is at the path now with the recorded id. */
enum target_state target_state_of(const struct tproxy_target *target);

#endif
