/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rows of rules, made by hand, and what they match: bpf/rules.bpf.h, built by the host's compiler,
 * with the index that loader/rules/index.c makes of the rows. Included by one file of each test
 * program.
 */
#ifndef TPROXY_RULE_ROWS_H
#define TPROXY_RULE_ROWS_H

#include "rules.bpf.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "rules/index.h"
#include "unit.h"
#include "util.h"

/* Reads as the kernel half does: exactly n bytes. */
static __always_inline void rules_name_read(__u64 chunk[RULES_CHUNK_WORDS], const char *name,
					    __u32 offset, __u32 n)
{
	assert_in_range(n, 1, RULES_CHUNK);
	memcpy(chunk, name + offset, n);
}

static struct tproxy_rules rules;

/* Appends a row without conditions, for TCP. group: the rule that it belongs to. */
static inline struct tproxy_rule *add(enum tproxy_rule_action action, __u16 group)
{
	struct tproxy_rule *row = &rules.rows[rules.n_rows++];

	assert_true(rules.n_rows <= TPROXY_RULES_MAX);
	*row = (struct tproxy_rule){
		.action = (__u8)action,
		.protocol = IPPROTO_TCP,
		.group = group,
	};
	return row;
}

/* The setup of each test. */
static inline int clear(void **state)
{
	memset(&rules, 0, sizeof(rules));
	return 0;
}

/* A connection that is in no set and no cgroup. */
static const struct rule_facts some = {
	.comm = { 0x3132333435363738, 0x0032333435363738 },
	.uid = 1000,
	.gid = 100,
	.port = 443,
	.protocol = IPPROTO_TCP,
};

/* Returns the row that decides, by a new index, or RULES_NO_ROW. */
static inline int match(struct rule_facts facts)
{
	index_build(&rules);
	return rules_match(&rules, &facts);
}

/* A random number less than n. */
static inline __u32 below(__u32 n)
{
	return (__u32)random() % n;
}

#endif
