/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rules in force, for programs that replace them. All functions need the lock of the pin
 * directory.
 *
 * A replacement is one update of map_rules[0]. Before it, nothing that the rules in force use is
 * changed, so a failure leaves them as they were. After it, rules_store_restore() can put the
 * previous rules back, until rules_store_settle() frees their sets. If a process dies in between,
 * the next rules_store_open() completes the replacement: map_rules[0] is the truth.
 *
 * Functions return 0 or -errno, logged.
 */
#ifndef TPROXY_STATE_RULES_STORE_H
#define TPROXY_STATE_RULES_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "inner_maps.h"
#include "rule_counters.h"

struct pins;
struct rules_compiled;
struct tproxy_rules;

struct rules_store {
	const struct pins *pins; /* open, so the directory is locked */
	int policy_fd, rules_fd, sets_fd, stats_fd, texts_fd, set_texts_fd;
	int inner_fd, inner_sets_fd; /* in map_rules[0], and in its slot of map_sets */
	struct tproxy_rules *now;    /* contents of inner_fd; generation 0: no rules */
	/* The previous rules and sets, until rules_store_settle(); -1: none. */
	int previous_fd, previous_sets_fd;
	bool links_later; /* the caller attaches the hooks of UDP itself, afterwards */
	bool held;	  /* by rules_store_hold(), of this process or another one */
	/* Set by tproxy-load, which has the object, so that it needs no CAP_SYS_ADMIN. */
	struct inner_map_types rules_types, sets_types;
	struct rule_counters counters;
};

#define RULES_STORE_NULL                                                                           \
	{                                                                                          \
		.policy_fd = -1, .rules_fd = -1, .sets_fd = -1, .stats_fd = -1, .texts_fd = -1,    \
		.set_texts_fd = -1, .inner_fd = -1, .inner_sets_fd = -1, .previous_fd = -1,        \
		.previous_sets_fd = -1, .rules_types = INNER_MAP_TYPES_NULL,                       \
		.sets_types = INNER_MAP_TYPES_NULL,                                                \
	}

/*
 * Opens the rules, and completes the replacement of a process that died. *store must be
 * RULES_STORE_NULL. The maps of @pins must be those of our ABI version. The caller calls
 * rules_store_close(), after a failure too.
 */
int rules_store_open(const struct pins *pins, struct rules_store *store);
void rules_store_close(struct rules_store *store);

/*
 * Pins the rules in force as map_rules_previous, and their sets as map_sets_previous, so that
 * another process can put them back after the next replacement. The pin stays until
 * rules_store_settle() or rules_store_restore().
 */
int rules_store_hold(struct rules_store *store);

/*
 * Replaces the rules in force. @file is the absolute path of their file. Call rules_store_settle()
 * or rules_store_restore() afterwards; after a failure rules_store_settle().
 */
int rules_store_replace(struct rules_store *store, const struct rules_compiled *compiled,
			const char *file);
/* The same with no rules, as before the first load. */
int rules_store_clear(struct rules_store *store);

/* Puts the previous rules back, and settles. */
int rules_store_restore(struct rules_store *store);

/*
 * Frees everything that the rules in force do not use. Errors are only logged, because the next run
 * tries again.
 */
void rules_store_settle(struct rules_store *store);

#endif
