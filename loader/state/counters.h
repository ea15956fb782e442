/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The counters of map_stats: their names and values. */
#ifndef TPROXY_STATE_COUNTERS_H
#define TPROXY_STATE_COUNTERS_H

#include <stdint.h>

#include "tproxy_abi.h"

/*
 * Read the counters, each summed over all CPUs, of the pinned map, or of this one. Return 0 or
 * -errno, not logged.
 */
int counters_read(const char *pin_dir, uint64_t ret_counts[_TPROXY_STAT_MAX]);
int counters_read_map(int map_fd, uint64_t ret_counts[_TPROXY_STAT_MAX]);

/* Returns the name of counter @stat (enum tproxy_stat), or NULL beyond the last one. */
const char *counters_name(unsigned int stat);

#endif
