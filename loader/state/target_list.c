// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See target_list.h. */
#include "target_list.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "host/cgroup.h"
#include "tproxy_abi.h"
#include "util.h"

/* Reads the interfaces, or the cgroups. */
static int read_kind(int map_fd, bool xdp, struct tproxy_target **ret_list, size_t *ret_n)
{
	_cleanup_free_ struct tproxy_target *list = calloc(TPROXY_TARGETS_MAX, sizeof(*list));
	struct tproxy_target *next = list;
	__u32 key;
	int r;

	if (!list)
		return -ENOMEM;
	for (key = 0; key < TPROXY_TARGETS_MAX; key++) {
		r = bpf_map_lookup_elem(map_fd, &key, next);
		if (r == -ENOENT)
			break;
		if (r < 0)
			return r;
		next->path[sizeof(next->path) - 1] = '\0';
		if ((next->flags == TPROXY_TARGET_XDP) == xdp)
			next++;
	}
	*ret_n = (size_t)(next - list);
	*ret_list = TAKE_PTR(list);
	return 0;
}

int target_list_read(int map_fd, struct tproxy_target **ret_list, size_t *ret_n)
{
	return read_kind(map_fd, /* xdp= */ false, ret_list, ret_n);
}

int target_list_read_xdp(int map_fd, struct tproxy_target **ret_list, size_t *ret_n)
{
	return read_kind(map_fd, /* xdp= */ true, ret_list, ret_n);
}

int target_list_write(int map_fd, const struct tproxy_target *cgroups, size_t n,
		      const struct tproxy_target *xdp, size_t n_xdp)
{
	__u32 key;
	int r = 0;

	for (key = 0; key < TPROXY_TARGETS_MAX && r == 0; key++) {
		if (key < n)
			r = bpf_map_update_elem(map_fd, &key, &cgroups[key], BPF_ANY);
		else if (key < n + n_xdp)
			r = bpf_map_update_elem(map_fd, &key, &xdp[key - n], BPF_ANY);
		else
			r = bpf_map_delete_elem(map_fd, &key);
	}
	return r == -ENOENT ? 0 : r;
}

int target_list_read_pinned(const char *pin_dir, struct tproxy_target **ret_list, size_t *ret_n)
{
	_cleanup_close_ int fd = -1;
	int r = bpffs_open_map(pin_dir, PINNED_TARGETS, /* writable= */ false, &fd);

	return r < 0 ? r : target_list_read(fd, ret_list, ret_n);
}

int target_list_read_xdp_pinned(const char *pin_dir, struct tproxy_target **ret_list, size_t *ret_n)
{
	_cleanup_close_ int fd = -1;
	int r = bpffs_open_map(pin_dir, PINNED_TARGETS, /* writable= */ false, &fd);

	return r < 0 ? r : target_list_read_xdp(fd, ret_list, ret_n);
}

int target_list_update_xdp(int map_fd, const struct tproxy_target *target)
{
	_cleanup_free_ struct tproxy_target *old = malloc(sizeof(*old));
	__u32 key;
	int r = 0;

	if (!old)
		return -ENOMEM;
	for (key = 0; key < TPROXY_TARGETS_MAX && r == 0; key++) {
		r = bpf_map_lookup_elem(map_fd, &key, old);
		if (r == 0 && old->flags == TPROXY_TARGET_XDP &&
		    strncmp(old->path, target->path, sizeof(old->path)) == 0)
			return bpf_map_update_elem(map_fd, &key, target, BPF_EXIST);
	}
	return r < 0 ? r : -ENOENT;
}

/*
 * Returns true if this process sees the hierarchy in which the path was recorded. If it does not,
 * as in a container, a path that does not exist means nothing.
 */
static bool is_visible(const char *path)
{
	_cleanup_(cgroup_close) struct cgroup top = CGROUP_NULL;
	const struct cgroup recorded = { .path = (char *)path, .fd = -1 };
	_cleanup_free_ char *root = NULL;

	return cgroup_root(&root) == 0 && cgroup_open(root, &top) == 0 &&
	       cgroup_is_within(&recorded, &top);
}

enum target_state target_state_of(const struct tproxy_target *target)
{
	struct cgroup cgroup = CGROUP_NULL;
	int r = cgroup_open(target->path, &cgroup);
	bool same = r == 0 && cgroup.id == target->cgroup_id;

	cgroup_close(&cgroup);
	if (r == -ENOENT || r == -ENOTDIR)
		return is_visible(target->path) ? TARGET_ABSENT : TARGET_UNKNOWN;
	if (r < 0)
		return TARGET_UNKNOWN;
	return same ? TARGET_PRESENT : TARGET_REPLACED;
}
