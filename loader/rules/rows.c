// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Compiles rules to rows, see rows.h. A row has one value of each condition, so a rule with two
 * ports and three users is six rows. Destinations are a set, which is one bit whatever its length.
 *
 * The combinations are numbered: with lists of n1, n2, ... values, number c has value c % n1 of the
 * first list, value c / n1 % n2 of the second, and so on.
 */
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sets.h"
#include "source.h"
#include "text.h"
#include "tproxy_abi.h"
#include "upstream_id.h"

/* Returns the number of values of a condition for the count of rows; 0 for destinations. */
static size_t n_values(const struct parsed_conditions *conditions, size_t i)
{
	return i == PARSED_TO ? 0 : conditions->lists[i].n_items;
}

static uint32_t count(const struct parsed_conditions *conditions)
{
	uint64_t n = 1;
	size_t i;

	for (i = 0; i < _PARSED_CONDITION_MAX; i++) {
		if (n_values(conditions, i) && n <= UINT32_MAX)
			n *= n_values(conditions, i) < UINT32_MAX ? n_values(conditions, i)
								  : UINT32_MAX;
	}
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

uint32_t rows_count(const struct parsed_rule *rule)
{
	uint64_t n = count(&rule->conditions);
	size_t i;

	for (i = 0; i < rule->n_unless; i++)
		n += count(&rule->unless[i]);
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

char *rows_explain(const struct parsed_rule *rule, char *buf, size_t size)
{
	static const char *const names[_PARSED_CONDITION_MAX] = {
		[PARSED_PORT] = "ports",    [PARSED_UID] = "users",	 [PARSED_GID] = "groups",
		[PARSED_COMM] = "commands", [PARSED_CGROUP] = "cgroups",
	};
	const uint32_t exceptions = rows_count(rule) - count(&rule->conditions);
	size_t i, used = 0;

	*buf = '\0';
	for (i = 0; i < _PARSED_CONDITION_MAX; i++) {
		if (n_values(&rule->conditions, i) > 1 && used < size)
			used += (size_t)snprintf(buf + used, size - used, "%s%zu %s",
						 used ? " x " : "", n_values(&rule->conditions, i),
						 names[i]);
	}
	if (exceptions && used < size)
		snprintf(buf + used, size - used, "%s%u for unless", used ? " + " : "1 + ",
			 exceptions);
	else if (!used)
		snprintf(buf, size, "no list");
	return buf;
}

static void pattern_test(const struct parsed_item *item, struct tproxy_cgroup_test *test)
{
	const char *star = strchr(item->word, '*');
	const size_t prefix = star ? (size_t)(star - item->word) : strlen(item->word);

	/* value.c checked the lengths. */
	memcpy(test->prefix, item->word, prefix);
	test->prefix_len = (__u16)prefix;
	test->exact = !star;
	if (star) {
		test->suffix_len = (__u16)strlen(star + 1);
		memcpy(test->suffix, star + 1, test->suffix_len);
	}
}

/* Returns the index of the test for a cgroup, which is added if needed, or -ENOSPC. */
static int test_of(struct tproxy_rules *rules, const struct parsed_item *item)
{
	struct tproxy_cgroup_test test = {};
	__u32 i;

	if (item->type == PARSED_CGROUP_NAME) {
		pattern_test(item, &test);
	} else {
		/*
		 * A path that was not looked up has no id. Any number that no other path has will
		 * do.
		 */
		test.cgroup_id = item->cgroup_id ? item->cgroup_id : text_hash(item->word);
		test.level = item->cgroup_level;
	}
	for (i = 0; i < rules->n_cgroup_tests; i++) {
		if (memcmp(&rules->cgroup_tests[i], &test, sizeof(test)) == 0)
			return (int)i;
	}
	if (i == TPROXY_CGROUP_TESTS_MAX)
		return -ENOSPC;
	rules->cgroup_tests[rules->n_cgroup_tests++] = test;
	return (int)i;
}

static int set_cgroup(const struct source *source, struct tproxy_rules *rules,
		      const struct parsed_item *item, struct tproxy_rule *row)
{
	const int test = test_of(rules, item);

	if (test < 0) {
		source_error(source, item->at, "expected at most %d different cgroups in all rules",
			     TPROXY_CGROUP_TESTS_MAX);
		return -EINVAL;
	}
	row->conditions |= TPROXY_RULE_CGROUP;
	row->cgroup = (__u8)test;
	rules->needs |= TPROXY_NEEDS_CGROUP;
	return 0;
}

/* Sets one condition of a row to a value of its list. Returns 0 or -EINVAL. */
static int set_value(const struct source *source, struct tproxy_rules *rules,
		     enum parsed_condition condition, const struct parsed_item *item,
		     struct tproxy_rule *row)
{
	/* A name that was not looked up gets an id that no process has. */
	const bool known = item->type == PARSED_NUMBERS;
	const __u32 first = known ? item->number_first : UINT32_MAX;
	const __u32 last = known ? item->number_last : UINT32_MAX;

	switch (condition) {
	case PARSED_PORT:
		row->conditions |= TPROXY_RULE_PORT;
		row->port_first = (__u16)first;
		row->port_last = (__u16)last;
		return 0;
	case PARSED_UID:
		row->conditions |= TPROXY_RULE_UID;
		row->uid_first = first;
		row->uid_last = last;
		return 0;
	case PARSED_GID:
		row->conditions |= TPROXY_RULE_GID;
		row->gid_first = first;
		row->gid_last = last;
		return 0;
	case PARSED_COMM:
		row->conditions |= TPROXY_RULE_COMM;
		memcpy(row->comm, item->word, strnlen(item->word, TPROXY_COMM_LEN - 1));
		rules->needs |= TPROXY_NEEDS_COMM;
		return 0;
	default:
		return set_cgroup(source, rules, item, row);
	}
}

/* Sets the destination of a row. Returns 0 or -EINVAL. */
static int set_destination(const struct source *source, struct tproxy_rules *rules,
			   struct sets *sets, const struct parsed_list *list,
			   struct tproxy_rule *row)
{
	int bit;

	if (!list->given || list->any)
		return 0;
	bit = sets_bit_of(sets, list);
	if (bit < 0) {
		source_error(source, list->at,
			     "expected at most %d different sets and lists of addresses",
			     TPROXY_SETS_MAX);
		return -EINVAL;
	}
	row->conditions |= TPROXY_RULE_SET;
	row->set = (__u8)bit;
	rules->needs |= TPROXY_NEEDS_SETS;
	return 0;
}

/* Appends the rows of conditions; the other members are those of @row. Returns 0 or -EINVAL. */
static int add_combinations(const struct source *source, struct tproxy_rules *rules,
			    struct sets *sets, const struct parsed_conditions *conditions,
			    struct tproxy_rule row)
{
	const uint32_t n = count(conditions);
	uint32_t c, rest;
	size_t i, values;
	int r;

	r = set_destination(source, rules, sets, &conditions->lists[PARSED_TO], &row);
	for (c = 0; c < n && r == 0; c++) {
		rules->rows[rules->n_rows] = row;
		rest = c;
		for (i = 0; i < _PARSED_CONDITION_MAX && r == 0; i++) {
			values = n_values(conditions, i);
			if (!values)
				continue;
			r = set_value(source, rules, (enum parsed_condition)i,
				      &conditions->lists[i].items[rest % values],
				      &rules->rows[rules->n_rows]);
			rest /= (uint32_t)values;
		}
		rules->n_rows++;
	}
	return r;
}

int rows_add(const struct source *source, const struct parsed_rule *rule, uint16_t group,
	     struct sets *sets, struct tproxy_rules *rules)
{
	struct tproxy_rule row = { .protocol = rule->protocol, .group = group };
	size_t i;
	int r = 0;

	row.action = TPROXY_RULE_SKIP;
	for (i = 0; i < rule->n_unless && r == 0; i++)
		r = add_combinations(source, rules, sets, &rule->unless[i], row);
	row.action = rule->action;
	row.error = rule->error;
	row.flags = rule->flags;
	if (*rule->upstream)
		row.upstream = upstream_id(rule->upstream);
	if (r == 0)
		r = add_combinations(source, rules, sets, &rule->conditions, row);
	return r;
}
