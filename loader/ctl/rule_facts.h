/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rule that applies to a caller and a destination. It uses the rules and the sets in force,
 * gathers the facts as bpf/rulefacts.bpf.h does, and calls the same rules_match(). The kernel looks
 * the destination up in the trie.
 */
#ifndef TPROXY_CTL_RULE_FACTS_H
#define TPROXY_CTL_RULE_FACTS_H

#include <stdbool.h>

#include "objects.h"
#include "tproxy_abi.h"

struct caller;
struct json_object;

/* Rules of one generation, with their sets. Rules in force do not change; they are replaced. */
struct rule_facts_source {
	const char *pin_dir;	    /* NULL: rules without pins, which are not read again */
	struct tproxy_rules *rules; /* generation 0: no rules are loaded */
	int sets_fd;		    /* -1: not needed */
	__u64 cgroups;		    /* the cgroup tests that hold for the caller */
};

#define RULE_FACTS_SOURCE_NULL                                                                     \
	{                                                                                          \
		.sets_fd = -1                                                                      \
	}

/* What the rules say. */
struct rule_found {
	int row; /* in tproxy_rules.rows; RULES_NO_ROW: the default, or no rules */
	struct tproxy_set_bits sets;
};

/*
 * Reads the rules again if they were replaced. Returns 0, or -errno with the map that cannot be
 * read in *ret_failed. The caller calls rule_facts_finish() at the end.
 */
int rule_facts_refresh(struct rule_facts_source *source, const struct caller *caller,
		       enum pinned_map_id *ret_failed);
/* Takes rules without pins. @sets_fd is -1 if they need none. Both are owned by @source then. */
void rule_facts_take(struct rule_facts_source *source, struct tproxy_rules *rules, int sets_fd,
		     const struct caller *caller);
void rule_facts_finish(struct rule_facts_source *source);

/* Finds the row for a TCP connection. As rule_facts_refresh(). */
int rule_facts_find(const struct rule_facts_source *source, const struct caller *caller,
		    const struct tproxy_endpoint *dst, bool named_only,
		    struct rule_found *ret_found, enum pinned_map_id *ret_failed);

/*
 * Adds member "rule": name, line, text and action of the rule, or of the default, that applies.
 * Names may be missing: they are in maps of their own.
 */
void rule_facts_add_rule(struct json_object *root, const struct rule_facts_source *source,
			 const struct rule_found *found);
/* Adds member "sets": the names of the sets that the destination is in, with blanks between. */
void rule_facts_add_sets(struct json_object *facts, const struct rule_facts_source *source,
			 const struct rule_found *found);

#endif
