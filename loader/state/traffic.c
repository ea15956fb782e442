// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See traffic.h. */
#include "traffic.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "host/cgroup.h"
#include "log.h"
#include "maps.h"
#include "on_demand.h"
#include "pins.h"
#include "target_list.h"
#include "tproxy_abi.h"
#include "util.h"

static int read_block(const char *pin_dir, bool writable, int *ret_fd, struct tproxy_block *block)
{
	_cleanup_close_ int fd = -1;
	const __u32 key = 0;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_BLOCK, writable, &fd);
	if (r == 0)
		r = bpf_map_lookup_elem(fd, &key, block);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

static enum traffic_state state_of(const struct tproxy_block *block)
{
	if (!(block->state & TPROXY_BLOCK_TRAFFIC))
		return TRAFFIC_OFF;
	return block->state & TPROXY_BLOCK_TRAFFIC_STAYS ? TRAFFIC_STAYS : TRAFFIC_FOR_NOW;
}

enum traffic_state traffic_state(const char *pin_dir)
{
	_cleanup_close_ int fd = -1;
	struct tproxy_block block;

	if (read_block(pin_dir, /* writable= */ false, &fd, &block) < 0)
		return TRAFFIC_OFF;
	return state_of(&block);
}

/* All flags of the state are in one byte, so the hooks never see a part of a change. */
static int set_flags(const char *pin_dir, enum traffic_state state, bool *ret_needed)
{
	const __u32 both = TPROXY_BLOCK_TRAFFIC | TPROXY_BLOCK_TRAFFIC_STAYS, key = 0;
	_cleanup_close_ int fd = -1;
	struct tproxy_block block;
	int r;

	r = read_block(pin_dir, /* writable= */ true, &fd, &block);
	if (r == 0) {
		block.state &= ~both;
		if (state != TRAFFIC_OFF)
			block.state |= state == TRAFFIC_STAYS ? both : TPROXY_BLOCK_TRAFFIC;
		*ret_needed = block.state & (TPROXY_BLOCK_TRAFFIC | TPROXY_BLOCK_ENTRIES);
		r = bpf_map_update_elem(fd, &key, &block, BPF_ANY);
	}
	return r < 0 ? maps_log_error(pin_dir, PINNED_BLOCK, r) : 0;
}

/* --- the entries of both maps */

/* Returns the keys of a map, at most @max; the caller frees *ret_keys. */
static int read_keys(int fd, size_t max, __u64 **ret_keys, size_t *ret_n)
{
	_cleanup_free_ __u64 *keys = calloc(max, sizeof(*keys));
	size_t n = 0;
	int r;

	if (!keys)
		return -ENOMEM;
	r = bpf_map_get_next_key(fd, NULL, &keys[0]);
	for (; r == 0 && ++n < max;)
		r = bpf_map_get_next_key(fd, &keys[n - 1], &keys[n]);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_keys = TAKE_PTR(keys);
	*ret_n = n;
	return 0;
}

static bool is_target(const struct tproxy_target *targets, size_t n, __u64 id)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (targets[i].flags != TPROXY_TARGET_XDP && targets[i].cgroup_id == id)
			return true;
	}
	return false;
}

static int insert_empty(int fd, __u64 id)
{
	const int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_traffic *values = NULL;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	return bpf_map_update_elem(fd, &id, values, BPF_NOEXIST);
}

/* A new target may lie within another one: what is known about its cgroups is then wrong. */
static int forget_all(const char *pin_dir)
{
	_cleanup_free_ __u64 *keys = NULL;
	_cleanup_close_ int fd = -1;
	size_t n = 0, i;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_TRAFFIC, /* writable= */ true, &fd);
	if (r == 0)
		r = read_keys(fd, TPROXY_TRAFFIC_MAX, &keys, &n);
	for (i = 0; i < n; i++)
		bpf_map_delete_elem(fd, &keys[i]);
	return r;
}

/* Makes the keys of map_traffic_sums those of @targets. */
static int renew_sums(const char *pin_dir, const struct tproxy_target *targets, size_t n_targets)
{
	_cleanup_free_ __u64 *keys = NULL;
	_cleanup_close_ int fd = -1;
	bool added = false;
	size_t n = 0, i;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_TRAFFIC_SUMS, /* writable= */ true, &fd);
	if (r == 0)
		r = read_keys(fd, TPROXY_TARGETS_MAX, &keys, &n);
	for (i = 0; i < n && r == 0; i++) {
		if (!is_target(targets, n_targets, keys[i]))
			bpf_map_delete_elem(fd, &keys[i]);
	}
	for (i = 0; i < n_targets && r == 0; i++) {
		if (targets[i].flags == TPROXY_TARGET_XDP || !targets[i].cgroup_id)
			continue;
		r = insert_empty(fd, targets[i].cgroup_id);
		added = added || r == 0;
		r = r == -EEXIST ? 0 : r;
	}
	return r == 0 && added ? forget_all(pin_dir) : r;
}

static int prepare_maps(const char *pin_dir)
{
	_cleanup_free_ struct tproxy_target *targets = NULL;
	_cleanup_close_ int fd = -1;
	size_t n = 0;
	int r;

	r = target_list_read_pinned(pin_dir, &targets, &n);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_TARGETS, r);
	r = renew_sums(pin_dir, targets, n);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_TRAFFIC_SUMS, r);
	r = traffic_forget_removed(pin_dir);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_TRAFFIC, /* writable= */ true, &fd);
	if (r == 0)
		r = insert_empty(fd, 0);
	return r < 0 && r != -EEXIST ? maps_log_error(pin_dir, PINNED_TRAFFIC, r) : 0;
}

int traffic_forget_removed(const char *pin_dir)
{
	_cleanup_free_ __u64 *keys = NULL;
	_cleanup_close_ int fd = -1;
	size_t n = 0, i;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_TRAFFIC, /* writable= */ true, &fd);
	if (r == 0)
		r = read_keys(fd, TPROXY_TRAFFIC_MAX, &keys, &n);
	for (i = 0; i < n; i++) {
		_cleanup_free_ char *path = NULL;

		if (keys[i] && cgroup_path_by_id(keys[i], &path) == -ESTALE)
			bpf_map_delete_elem(fd, &keys[i]);
	}
	return r;
}

/* --- on and off */

int traffic_set(const struct pins *pins, enum traffic_state state)
{
	bool needed = true;
	int r = 0, error;

	if (state != TRAFFIC_OFF) {
		r = prepare_maps(pins->path);
		if (r == 0)
			r = on_demand_attach(pins, HOOK_NEED_BLOCK);
		if (r == 0)
			return set_flags(pins->path, state, &needed);
	}
	error = set_flags(pins->path, TRAFFIC_OFF, &needed);
	if (error == 0 && !needed)
		error = on_demand_detach(pins, HOOK_NEED_BLOCK);
	return r < 0 ? r : error;
}

int traffic_set_for_now(const char *pin_dir, bool counted)
{
	_cleanup_(pins_close) struct pins pins = PINS_NULL;
	int r;

	r = pins_open(pin_dir, /* create= */ false, &pins);
	if (r == -ENOENT)
		log_err(MAPS_NOT_LOADED, pin_dir);
	if (r < 0 || traffic_state(pin_dir) == TRAFFIC_STAYS)
		return r;
	return traffic_set(&pins, counted ? TRAFFIC_FOR_NOW : TRAFFIC_OFF);
}

/* --- reading */

static void add_up(const struct tproxy_traffic *values, int cpus, struct tproxy_traffic *ret_sum)
{
	struct tproxy_traffic sum = {};
	int i;

	for (i = 0; i < cpus; i++) {
		sum.packets_in += values[i].packets_in;
		sum.bytes_in += values[i].bytes_in;
		sum.packets_out += values[i].packets_out;
		sum.bytes_out += values[i].bytes_out;
	}
	*ret_sum = sum;
}

int traffic_read(const char *pin_dir,
		 int (*fn)(uint64_t cgroup_id, const struct tproxy_traffic *traffic, void *data),
		 void *data)
{
	const int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_traffic *values = NULL;
	_cleanup_free_ __u64 *keys = NULL;
	_cleanup_close_ int fd = -1;
	struct tproxy_traffic sum;
	size_t n = 0, i;
	int r;

	if (cpus < 0)
		return cpus;
	values = calloc((size_t)cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	r = bpffs_open_map(pin_dir, PINNED_TRAFFIC, /* writable= */ false, &fd);
	if (r == 0)
		r = read_keys(fd, TPROXY_TRAFFIC_MAX, &keys, &n);
	for (i = 0; i < n && r == 0; i++) {
		r = bpf_map_lookup_elem(fd, &keys[i], values);
		if (r < 0) {
			r = r == -ENOENT ? 0 : r;
			continue;
		}
		add_up(values, cpus, &sum);
		r = fn(keys[i], &sum, data);
	}
	return r;
}
