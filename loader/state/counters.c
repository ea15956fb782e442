// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See counters.h. */
#include "counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpffs.h"
#include "stat_name.h"
#include "util.h"

const char *counters_name(unsigned int stat)
{
	return stat_name(stat);
}

int counters_read_map(int map_fd, uint64_t ret_counts[_TPROXY_STAT_MAX])
{
	int n_cpus = libbpf_num_possible_cpus(), r = 0, i;
	_cleanup_free_ __u64 *values = NULL;
	__u32 key;

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (key = 0; r == 0 && key < _TPROXY_STAT_MAX; key++) {
		ret_counts[key] = 0;
		r = bpf_map_lookup_elem(map_fd, &key, values);
		for (i = 0; r == 0 && i < n_cpus; i++)
			ret_counts[key] += values[i];
	}
	return r;
}

int counters_read(const char *pin_dir, uint64_t ret_counts[_TPROXY_STAT_MAX])
{
	_cleanup_close_ int fd = -1;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_STATS, /* writable= */ false, &fd);
	return r < 0 ? r : counters_read_map(fd, ret_counts);
}
