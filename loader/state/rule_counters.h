/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The counters of rules: which index each rule has in map_rule_stats and map_rule_texts. A rule
 * keeps its index, and so its counts, while its text stays the same. That also holds if a load in
 * between did not have the rule, until another rule needs the index.
 *
 * Functions return 0 or -errno, not logged.
 */
#ifndef TPROXY_STATE_RULE_COUNTERS_H
#define TPROXY_STATE_RULE_COUNTERS_H

#include <stdint.h>

#include "tproxy_abi.h"

struct rules_compiled;

struct rule_counters {
	int stats_fd, texts_fd;		/* not owned */
	struct tproxy_rule_text *texts; /* all of them, owned */
};

int rule_counters_open(int stats_fd, int texts_fd, struct rule_counters *ret_counters);
void rule_counters_close(struct rule_counters *counters);

/* Returns the highest generation that a text names. No cgroup is cached for a higher generation. */
uint32_t rule_counters_generation(const struct rule_counters *counters);

/*
 * Sets counter of each row and default_counter in @next. An index that is new in @next was not used
 * by @now: its count is cleared, and its text is written. @next->generation must be set.
 */
int rule_counters_assign(struct rule_counters *counters, const struct rules_compiled *compiled,
			 const struct tproxy_rules *now, struct tproxy_rules *next);

/*
 * Writes the generation of @rules, which are in force, and their lines to their texts. An error
 * only means that an index may be reused sooner.
 */
void rule_counters_mark(struct rule_counters *counters, const struct rules_compiled *compiled,
			const struct tproxy_rules *rules);
/* The same for rules that were taken back. @before: the generation that they had before. */
void rule_counters_mark_restored(struct rule_counters *counters, const struct tproxy_rules *rules,
				 uint32_t before);

#endif
