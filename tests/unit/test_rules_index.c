// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the index of rules (loader/rules/index.c): random rows and connections, decided by
 * bpf/rules.bpf.h with the index, and by a second implementation, which tries rules in place of
 * rows and has no index.
 */
#include "rule_rows.h"

#define ROUNDS 8000

/* The second implementation: all conditions of a row hold. */
static bool holds(const struct tproxy_rule *row, const struct rule_facts *f)
{
	char comm[TPROXY_COMM_LEN];
	bool in_set = f->sets.words[row->set / 64] & 1ULL << row->set % 64;

	memcpy(comm, f->comm, sizeof(comm));
	return row->protocol == f->protocol && (!(row->conditions & TPROXY_RULE_SET) || in_set) &&
	       (!(row->conditions & TPROXY_RULE_PORT) ||
		(f->port >= row->port_first && f->port <= row->port_last)) &&
	       (!(row->conditions & TPROXY_RULE_UID) ||
		(f->uid >= row->uid_first && f->uid <= row->uid_last)) &&
	       (!(row->conditions & TPROXY_RULE_GID) ||
		(f->gid >= row->gid_first && f->gid <= row->gid_last)) &&
	       (!(row->conditions & TPROXY_RULE_CGROUP) || f->cgroups & 1ULL << row->cgroup) &&
	       (!(row->conditions & TPROXY_RULE_COMM) || memcmp(comm, row->comm, 16) == 0);
}

/* Rule by rule: first the exceptions of one, then its other rows. */
static int match_simply(const struct rule_facts *f)
{
	__u32 begin, end, i;
	bool excepted;

	for (begin = 0; begin < rules.n_rows; begin = end) {
		excepted = false;
		for (end = begin;
		     end < rules.n_rows && rules.rows[end].group == rules.rows[begin].group; end++)
			excepted |= rules.rows[end].action == TPROXY_RULE_SKIP &&
				    holds(&rules.rows[end], f);
		for (i = begin; i < end && !excepted; i++) {
			if (rules.rows[i].action != TPROXY_RULE_SKIP && holds(&rules.rows[i], f) &&
			    (!f->named_only || rules.rows[i].conditions & TPROXY_RULE_SET))
				return (int)i;
		}
	}
	return RULES_NO_ROW;
}

/* A bound of a range: few different numbers, or wide apart, or the largest ones. */
static __u32 random_bound(bool wide, __u32 most)
{
	if (!wide)
		return below(8);
	return below(8) ? (__u32)random() * 3 & most : most - below(2);
}

static void random_range(bool wide, __u32 most, __u32 *ret_first, __u32 *ret_last)
{
	const __u32 first = random_bound(wide, most), more = below(4) ? below(3) : below(most >> 3);

	*ret_first = first;
	*ret_last = more < most - first ? first + more : most;
}

static void random_row(__u16 group, bool exception, bool wide)
{
	struct tproxy_rule *row =
		add(exception ? TPROXY_RULE_SKIP : below(TPROXY_RULE_SKIP), group);
	__u32 first, last;

	row->conditions = (__u8)(random() & random() & 0x3f);
	row->protocol = below(8) ? IPPROTO_TCP : IPPROTO_UDP;
	row->set = (__u8)(wide ? below(TPROXY_SETS_MAX) : below(4) * 64 + below(2));
	row->cgroup = (__u8)below(wide ? TPROXY_CGROUP_TESTS_MAX : 3);
	random_range(wide, UINT16_MAX, &first, &last);
	row->port_first = (__u16)first;
	row->port_last = (__u16)last;
	random_range(wide, UINT32_MAX, &row->uid_first, &row->uid_last);
	random_range(wide, UINT32_MAX, &row->gid_first, &row->gid_last);
	row->comm[below(2) * 15] = (char)below(wide ? 100 : 2);
}

static void random_rules(bool wide)
{
	const __u32 most = below(4) ? below(40) : TPROXY_RULES_MAX;
	__u16 group = 0;

	clear(NULL);
	while (rules.n_rows < most) {
		__u32 n_exceptions = below(3) ? 0 : below(3), n = 1 + below(4);

		for (; n_exceptions && rules.n_rows < most; n_exceptions--)
			random_row(group, true, wide);
		for (; n && rules.n_rows < most; n--)
			random_row(group, false, wide);
		group++;
	}
	index_build(&rules);
}

/* Facts that the conditions of some row are about: at the bounds of its ranges, or beside them. */
static struct rule_facts random_facts(void)
{
	const struct tproxy_rule *row = &rules.rows[below(rules.n_rows + 1) % TPROXY_RULES_MAX];
	struct rule_facts facts = {
		.cgroups = below(2) ? 1ULL << row->cgroup : (__u64)random() * (__u64)random(),
		.uid = (below(2) ? row->uid_first : row->uid_last) + below(3) - 1,
		.gid = (below(2) ? row->gid_first : row->gid_last) + below(3) - 1,
		.port = (__u16)((below(2) ? row->port_first : row->port_last) + below(3) - 1),
		.protocol = below(8) ? IPPROTO_TCP : IPPROTO_UDP,
		.named_only = !below(4),
	};
	int n;

	for (n = below(4) ? (int)below(4) : (int)below(100); n > 0; n--)
		facts.sets.words[below(4)] |= 1ULL << below(below(2) ? 2 : 64);
	if (below(2))
		facts.sets.words[row->set / 64] |= 1ULL << row->set % 64;
	memcpy(facts.comm, row->comm, sizeof(facts.comm));
	return facts;
}

/*
 * To see it fail: let ruleindex_search() compare with value + 1, or build_members() use without_set
 * in place of without_cgroup, or leave out the second loop of ruleindex_add().
 */
static void test_random(void **state)
{
	int round, i, found, n_found = 0, n_late = 0;

	srandom(1);
	for (round = 0; round < ROUNDS; round++) {
		random_rules(round % 2);
		for (i = 0; i < 8; i++) {
			const struct rule_facts facts = random_facts();

			found = match_simply(&facts);
			assert_int_equal(rules_match(&rules, &facts), found);
			n_found += found != RULES_NO_ROW;
			n_late += found >= RULES_BLOCK;
		}
	}
	assert_in_range(n_found, ROUNDS, 7 * ROUNDS);
	assert_in_range(n_late, ROUNDS / 10, n_found);
}

/*
 * The index leaves the rows that hold, and no others if memberships are few and no hashes collide.
 * To see it fail: let find_ends() take range.first in place of range.first - 1.
 */
static void test_index_is_exact(void **state)
{
	struct tproxy_row_bits rows;
	int round, n_left = 0;
	__u32 i;

	srandom(1);
	for (round = 0; round < ROUNDS; round++) {
		struct rule_facts facts;

		random_rules(round % 2);
		facts = random_facts();
		facts.cgroups &= 0xff;
		for (i = 0; i < ARRAY_SIZE(facts.sets.words); i++)
			facts.sets.words[i] &= 0x8000000000000007;
		rules_candidates(&rules, &facts, &rows);
		for (i = 0; i < rules.n_rows; i++) {
			const bool left = rows.words[i / 64] >> i % 64 & 1;

			assert_int_equal(left, holds(&rules.rows[i], &facts));
			n_left += left;
		}
	}
	assert_true(n_left > ROUNDS);
}

/*
 * One range more than the index has room for.
 * To see it fail: let build_ranges() leave out the last range.
 */
static void test_most_ranges(void **state)
{
	struct rule_facts facts = some;
	unsigned int i;

	for (i = 0; i < TPROXY_RULES_MAX; i++) {
		struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, (__u16)i);

		row->conditions = TPROXY_RULE_PORT;
		row->port_first = (__u16)(4 * i + 1);
		row->port_last = (__u16)(4 * i + 2);
	}
	index_build(&rules);
	for (i = 0; i <= UINT16_MAX; i++) {
		facts.port = (__u16)i;
		assert_int_equal(rules_match(&rules, &facts),
				 i < 4 * TPROXY_RULES_MAX && (i % 4 == 1 || i % 4 == 2)
					 ? (int)i / 4
					 : RULES_NO_ROW);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_random, clear),
		cmocka_unit_test_setup(test_index_is_exact, clear),
		cmocka_unit_test_setup(test_most_ranges, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
