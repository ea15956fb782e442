// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See block_stats.h. */
#include "block_stats.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "util.h"

static void add(struct tproxy_block_stat *sum, const struct tproxy_block_stat *one)
{
	sum->seen += one->seen;
	sum->dropped += one->dropped;
	sum->dropped_bytes += one->dropped_bytes;
	sum->invalid += one->invalid;
	sum->allowed += one->allowed;
	sum->control += one->control;
}

int block_stats_read(const char *pin_dir, struct tproxy_block_stat ret_stats[_TPROXY_PLACE_MAX])
{
	const int n_cpus = libbpf_num_possible_cpus();
	struct tproxy_block_stat sums[_TPROXY_PLACE_MAX] = {};
	_cleanup_free_ struct tproxy_block_stat *values = NULL;
	_cleanup_close_ int fd = -1;
	__u32 place;
	int r, i;

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	r = bpffs_open_map(pin_dir, PINNED_BLOCK_STATS, /* writable= */ false, &fd);
	for (place = 0; r == 0 && place < _TPROXY_PLACE_MAX; place++) {
		r = bpf_map_lookup_elem(fd, &place, values);
		for (i = 0; r == 0 && i < n_cpus; i++)
			add(&sums[place], &values[i]);
	}
	if (r == 0)
		memcpy(ret_stats, sums, sizeof(sums));
	return r;
}
