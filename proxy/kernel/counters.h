/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel half has counted since the load: outcomes of connect(), and hits of the rules in
 * force. Read from the pinned maps, with the rights of the relay's group. Any thread.
 */
#ifndef TPROXY_RELAY_COUNTERS_H
#define TPROXY_RELAY_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

/* A rule in force, or the default of the rules. */
struct counted_rule {
	uint32_t counter; /* index in map_rule_texts */
	uint16_t action;  /* enum tproxy_rule_action */
	uint64_t hits;
	uint64_t last_ns;	      /* CLOCK_MONOTONIC of the last hit; 0 = none */
	struct tproxy_rule_text text; /* ends with NULs */
};

struct counters {
	uint32_t policy_flags; /* enum tproxy_policy_flags */
	uint64_t loaded_ns;    /* CLOCK_MONOTONIC: the counts start here */
	uint64_t stats[_TPROXY_STAT_MAX];
	uint32_t generation;	    /* of the rules; 0 = none were loaded */
	struct counted_rule *rules; /* owned; in the order of the file, the default last */
	size_t n_rules;
};

/* Returns 0 with *ret_counters set, for counters_finish(), or -errno. Does not log. */
int counters_read(const char *pin_dir, struct counters *ret_counters);
void counters_finish(struct counters *counters);

/*
 * Reads policy_flags, loaded_ns and stats only, into *ret_counters, which owns nothing. Returns 0
 * or -errno.
 */
int counters_read_stats(const char *pin_dir, struct counters *ret_counters);

#endif
