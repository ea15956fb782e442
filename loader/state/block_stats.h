/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The counters of the block list, by place. */
#ifndef TPROXY_STATE_BLOCK_STATS_H
#define TPROXY_STATE_BLOCK_STATS_H

#include "tproxy_abi.h"

/* Reads map_block_stats, summed over the CPUs. Errors as of bpffs_open_map(). */
int block_stats_read(const char *pin_dir, struct tproxy_block_stat ret_stats[_TPROXY_PLACE_MAX]);

#endif
