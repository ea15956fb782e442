/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rows of a rule: first the rows of its exceptions, then one row for each combination of its
 * lists.
 */
#ifndef TPROXY_RULES_ROWS_H
#define TPROXY_RULES_ROWS_H

#include "parsed.h"

struct sets;
struct source;
struct tproxy_rules;

/* Returns the number of rows that a rule takes, at most UINT32_MAX. */
uint32_t rows_count(const struct parsed_rule *rule);
/* Writes how this number comes about: "2 ports x 3 users + 1 for unless". Returns buf. */
char *rows_explain(const struct parsed_rule *rule, char *buf, size_t size);

/*
 * Appends the rows of a rule, for which there is room, and the cgroup tests and sets that it needs.
 * Returns 0, or -EINVAL with an error added to the messages of @source.
 */
int rows_add(const struct source *source, const struct parsed_rule *rule, uint16_t group,
	     struct sets *sets, struct tproxy_rules *rules);

#endif
