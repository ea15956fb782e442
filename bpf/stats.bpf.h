/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The counters in map_stats, one value for each CPU. */
#ifndef TPROXY_STATS_BPF_H
#define TPROXY_STATS_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"
#include "tproxy_abi.h"

static __always_inline void count(enum tproxy_stat stat)
{
	__u32 key = stat;
	__u64 *value = bpf_map_lookup_elem(&map_stats, &key);

	if (value)
		(*value)++;
}

#endif
