// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Makes the index of compiled rules, see index.h.
 *
 * Numbers are divided where the condition of some row begins or ends. Within each range that
 * results, all numbers satisfy the conditions of the same rows. 256 rows give at most 513 ranges,
 * one more than there is room for: the last two are then one range, with the rows of both.
 */
#include "index.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ruleindex.bpf.h"
#include "tproxy_abi.h"

/* Numbers from first to last. */
struct range {
	uint32_t first, last;
};

static void set_bit(struct tproxy_row_bits *bits, uint32_t row)
{
	bits->words[row / 64] |= UINT64_C(1) << row % 64;
}

/* Returns the numbers that satisfy the condition of a row, all of them if it has none. */
static struct range range_of(const struct tproxy_rule *row, enum tproxy_rule_range kind)
{
	__u64 comm[TPROXY_COMM_LEN / 8];
	uint32_t hash;

	if (!(row->conditions & TPROXY_RULE_PORT << kind))
		return (struct range){ 0, UINT32_MAX };
	switch (kind) {
	case TPROXY_RANGE_PORT:
		return (struct range){ row->port_first, row->port_last };
	case TPROXY_RANGE_UID:
		return (struct range){ row->uid_first, row->uid_last };
	case TPROXY_RANGE_GID:
		return (struct range){ row->gid_first, row->gid_last };
	default:
		memcpy(comm, row->comm, sizeof(comm));
		hash = ruleindex_comm(comm);
		return (struct range){ hash, hash };
	}
}

static int compare_ends(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Fills in the ends, in ascending order. Returns the number of ranges. */
static uint32_t find_ends(const struct tproxy_rules *rules, enum tproxy_rule_range kind,
			  uint32_t ends[TPROXY_RULE_RANGES_MAX])
{
	uint32_t found[2 * TPROXY_RULES_MAX];
	size_t n_found = 0, i;
	uint32_t n = 0;

	for (i = 0; i < rules->n_rows; i++) {
		const struct range range = range_of(&rules->rows[i], kind);

		if (range.first)
			found[n_found++] = range.first - 1;
		found[n_found++] = range.last;
	}
	qsort(found, n_found, sizeof(*found), compare_ends);
	for (i = 0; i < n_found && n < TPROXY_RULE_RANGES_MAX - 1; i++) {
		if (found[i] != UINT32_MAX && (n == 0 || ends[n - 1] != found[i]))
			ends[n++] = found[i];
	}
	for (i = n; i < TPROXY_RULE_RANGES_MAX; i++)
		ends[i] = UINT32_MAX;
	return n + 1;
}

static void build_ranges(struct tproxy_rules *rules, enum tproxy_rule_range kind)
{
	struct tproxy_rule_ranges *ranges = &rules->index.ranges[kind];
	const uint32_t n = find_ends(rules, kind, ranges->ends);
	uint32_t i, k;

	for (i = 0; i < rules->n_rows; i++) {
		const struct range range = range_of(&rules->rows[i], kind);

		for (k = 0; k < n; k++) {
			const uint32_t first = k ? ranges->ends[k - 1] + 1 : 0;

			if (range.first <= ranges->ends[k] && range.last >= first)
				set_bit(&ranges->rows[k], i);
		}
	}
}

static void build_members(struct tproxy_rules *rules)
{
	struct tproxy_rule_index *index = &rules->index;
	uint32_t i;

	for (i = 0; i < rules->n_rows; i++) {
		const struct tproxy_rule *row = &rules->rows[i];

		set_bit(&index->protocols[row->protocol % 2], i);
		set_bit(row->conditions & TPROXY_RULE_SET ? &index->members[row->set]
							  : &index->without_set,
			i);
		set_bit(row->conditions & TPROXY_RULE_CGROUP
				? &index->members[TPROXY_SETS_MAX + row->cgroup]
				: &index->without_cgroup,
			i);
	}
}

void index_build(struct tproxy_rules *rules)
{
	unsigned int kind;
	uint32_t i;

	rules->conditions = 0;
	memset(&rules->index, 0, sizeof(rules->index));
	for (i = 0; i < rules->n_rows; i++)
		rules->conditions |= rules->rows[i].conditions;
	build_members(rules);
	for (kind = 0; kind < _TPROXY_RANGE_MAX; kind++) {
		if (rules->conditions & TPROXY_RULE_PORT << kind)
			build_ranges(rules, (enum tproxy_rule_range)kind);
	}
}
