// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See packets.h. The maps are opened for each reading: after another load other maps are pinned. */
#include "packets.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "util.h"

const char *packets_place_name(enum tproxy_place place)
{
	static const char *const names[_TPROXY_PLACE_MAX] = {
		[TPROXY_PLACE_CONNECT] = "connect",
		[TPROXY_PLACE_INGRESS] = "ingress",
		[TPROXY_PLACE_EGRESS] = "egress",
		[TPROXY_PLACE_XDP] = "xdp",
	};

	return names[place];
}

/* Adds up values of all CPUs: structures that consist of @n numbers of 64 bits. */
static void add_up(const __u64 *values, int cpus, size_t n, __u64 *ret_sum)
{
	size_t i;
	int cpu;

	for (cpu = 0; cpu < cpus; cpu++) {
		for (i = 0; i < n; i++)
			ret_sum[i] += values[(size_t)cpu * n + i];
	}
}

/* Reads an entry of a per-CPU map, with a value of @size bytes. Returns 0 or -errno. */
static int read_sum(int fd, const void *key, int cpus, size_t size, void *ret_sum)
{
	_cleanup_free_ __u64 *values = calloc((size_t)cpus, size);
	int r;

	if (!values)
		return -ENOMEM;
	r = bpf_map_lookup_elem(fd, key, values);
	if (r == 0)
		add_up(values, cpus, size / sizeof(*values), ret_sum);
	return r;
}

static int read_block(const char *pin_dir, int cpus, struct packets *p)
{
	_cleanup_close_ int block_fd = -1, stats_fd = -1;
	struct tproxy_block block;
	__u32 key = 0;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_BLOCK, /* writable= */ false, &block_fd);
	if (r == 0)
		r = bpf_map_lookup_elem(block_fd, &key, &block);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_BLOCK_STATS, /* writable= */ false, &stats_fd);
	if (r < 0)
		return r;
	memcpy(p->n_entries, block.slots[block.state & TPROXY_BLOCK_SLOT ? 1 : 0].n_entries,
	       sizeof(p->n_entries));
	p->counts_traffic = block.state & TPROXY_BLOCK_TRAFFIC;
	for (key = 0; key < _TPROXY_PLACE_MAX && r == 0; key++)
		r = read_sum(stats_fd, &key, cpus, sizeof(p->places[key]), &p->places[key]);
	return r;
}

/* Reads the target of one index, if its traffic is counted. Returns -ENOENT at the end. */
static int read_target(int targets_fd, int sums_fd, __u32 key, int cpus, struct packets *p)
{
	_cleanup_free_ struct tproxy_target *target = calloc(1, sizeof(*target));
	struct packets_target to = {};
	int r;

	if (!target)
		return -ENOMEM;
	r = bpf_map_lookup_elem(targets_fd, &key, target);
	if (r < 0 || target->flags == TPROXY_TARGET_XDP || !target->cgroup_id)
		return r;
	r = read_sum(sums_fd, &target->cgroup_id, cpus, sizeof(to.sum), &to.sum);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	to.path = strndup(target->path, sizeof(target->path) - 1);
	if (!to.path)
		return -ENOMEM;
	to.relay = target->flags == TPROXY_TARGET_RELAY;
	p->targets[p->n_targets++] = to;
	return 0;
}

static int read_targets(const char *pin_dir, int cpus, struct packets *p)
{
	_cleanup_close_ int targets_fd = -1, sums_fd = -1;
	__u32 key;
	int r;

	p->targets = calloc(TPROXY_TARGETS_MAX, sizeof(*p->targets));
	if (!p->targets)
		return -ENOMEM;
	r = bpffs_open_map(pin_dir, PINNED_TARGETS, /* writable= */ false, &targets_fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_TRAFFIC_SUMS, /* writable= */ false, &sums_fd);
	for (key = 0; key < TPROXY_TARGETS_MAX && r == 0; key++)
		r = read_target(targets_fd, sums_fd, key, cpus, p);
	return r == -ENOENT && key > 0 ? 0 : r;
}

int packets_read(const char *pin_dir, struct packets *ret_packets)
{
	const int cpus = libbpf_num_possible_cpus();
	struct packets p = {};
	int r;

	if (cpus < 0)
		return cpus;
	r = read_block(pin_dir, cpus, &p);
	if (r == 0)
		r = read_targets(pin_dir, cpus, &p);
	if (r < 0) {
		packets_finish(&p);
		return r;
	}
	*ret_packets = p;
	return 0;
}

void packets_finish(struct packets *packets)
{
	size_t i;

	for (i = 0; i < packets->n_targets; i++)
		free(packets->targets[i].path);
	free(packets->targets);
	packets->targets = NULL;
	packets->n_targets = 0;
}
