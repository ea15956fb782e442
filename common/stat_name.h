/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Names of the counters in map_stats: in --status, in --json, in metrics and in the man pages. */
#ifndef TPROXY_STAT_NAME_H
#define TPROXY_STAT_NAME_H

/* Returns the name of a counter, enum tproxy_stat, or NULL if there is no such counter. */
const char *stat_name(unsigned int stat);

#endif
