// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests bpf/rules.bpf.h, built by the host's compiler: each condition alone, the order of rows, the
 * exceptions of `unless`, names of cgroups; and random rule sets, with the index that
 * loader/rules/index.c makes of them, against a second implementation, which tries rules in place
 * of rows and has no index.
 */
#include "rules.bpf.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules/index.h"
#include "unit.h"
#include "util.h"

#define ROUNDS	    8000
#define NAME_ROUNDS 200000

/* Reads as the kernel half does: exactly n bytes. */
static __always_inline void rules_name_read(__u64 chunk[RULES_CHUNK_WORDS], const char *name,
					    __u32 offset, __u32 n)
{
	assert_in_range(n, 1, RULES_CHUNK);
	memcpy(chunk, name + offset, n);
}

static struct tproxy_rules rules;

static struct tproxy_rule *add(enum tproxy_rule_action action, __u16 group)
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

static int clear(void **state)
{
	memset(&rules, 0, sizeof(rules));
	return 0;
}

static const struct rule_facts some = {
	.comm = { 0x3132333435363738, 0x0032333435363738 },
	.uid = 1000,
	.gid = 100,
	.port = 443,
	.protocol = IPPROTO_TCP,
};

static int match(struct rule_facts facts)
{
	index_build(&rules);
	return rules_match(&rules, &facts);
}

static void test_empty(void **state)
{
	assert_int_equal(match(some), RULES_NO_ROW);
	add(TPROXY_RULE_DIRECT, 0);
	assert_int_equal(match(some), 0);
	rules.rows[0].conditions = TPROXY_RULE_SET;
	add(TPROXY_RULE_DIRECT, 1);
	assert_int_equal(match(some), 1);
	for (; rules.n_rows; rules.n_rows--) /* rows beyond do not count */
		assert_int_equal(match(some), rules.n_rows == 2 ? 1 : RULES_NO_ROW);
	assert_int_equal(match(some), RULES_NO_ROW);
}

static void test_protocol(void **state)
{
	struct rule_facts facts = some;

	add(TPROXY_RULE_DIRECT, 0);
	facts.protocol = IPPROTO_UDP;
	assert_int_equal(match(facts), RULES_NO_ROW);
	rules.rows[0].protocol = IPPROTO_UDP;
	assert_int_equal(match(facts), 0);
	assert_int_equal(match(some), RULES_NO_ROW);
}

static void test_set(void **state)
{
	struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, 0);
	struct rule_facts facts;
	unsigned int set, other;

	row->conditions = TPROXY_RULE_SET;
	assert_int_equal(match(some), RULES_NO_ROW);
	for (set = 0; set < TPROXY_SETS_MAX; set++) {
		row->set = (__u8)set;
		facts = some;
		facts.sets.words[set / 64] = 1ULL << set % 64;
		assert_int_equal(match(facts), 0);
		other = (set + 64) % TPROXY_SETS_MAX;
		memset(&facts.sets, 0xff, sizeof(facts.sets));
		facts.sets.words[set / 64] &= ~(1ULL << set % 64);
		assert_int_equal(match(facts), RULES_NO_ROW);
		row->set = (__u8)other;
		assert_int_equal(match(facts), 0);
	}
}

static void test_port(void **state)
{
	struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, 0);

	row->conditions = TPROXY_RULE_PORT;
	row->port_first = row->port_last = 443;
	assert_int_equal(match(some), 0);
	row->port_first = 444;
	row->port_last = 65535;
	assert_int_equal(match(some), RULES_NO_ROW);
	row->port_first = 0;
	row->port_last = 442;
	assert_int_equal(match(some), RULES_NO_ROW);
	row->port_last = 65535;
	assert_int_equal(match(some), 0);
}

static void test_uid(void **state)
{
	struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, 0);

	row->conditions = TPROXY_RULE_UID;
	assert_int_equal(match(some), RULES_NO_ROW); /* root alone */
	row->uid_first = row->uid_last = 1000;
	assert_int_equal(match(some), 0);
	row->uid_first = 1001;
	row->uid_last = UINT32_MAX;
	assert_int_equal(match(some), RULES_NO_ROW);
	row->uid_first = 0;
	row->uid_last = 999;
	assert_int_equal(match(some), RULES_NO_ROW);
	row->uid_last = UINT32_MAX;
	assert_int_equal(match(some), 0);
}

static void test_gid(void **state)
{
	struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, 0);

	row->conditions = TPROXY_RULE_GID;
	assert_int_equal(match(some), RULES_NO_ROW);
	row->gid_first = row->gid_last = 100;
	assert_int_equal(match(some), 0);
	row->gid_first = 101;
	row->gid_last = UINT32_MAX;
	assert_int_equal(match(some), RULES_NO_ROW);
	row->gid_first = 0;
	row->gid_last = 99;
	assert_int_equal(match(some), RULES_NO_ROW);
}

static void test_command(void **state)
{
	struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, 0);
	struct rule_facts facts = some;
	int i;

	row->conditions = TPROXY_RULE_COMM;
	assert_int_equal(match(some), RULES_NO_ROW);
	memcpy(row->comm, some.comm, sizeof(row->comm));
	assert_int_equal(match(some), 0);
	for (i = 0; i < TPROXY_COMM_LEN; i++) { /* each byte counts */
		facts = some;
		((char *)facts.comm)[i] ^= 1;
		assert_int_equal(match(facts), RULES_NO_ROW);
	}
}

static void test_cgroup(void **state)
{
	struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, 0);
	struct rule_facts facts = some;

	row->conditions = TPROXY_RULE_CGROUP;
	for (row->cgroup = 0; row->cgroup < TPROXY_CGROUP_TESTS_MAX; row->cgroup++) {
		facts.cgroups = 1ULL << row->cgroup;
		assert_int_equal(match(facts), 0);
		facts.cgroups = ~facts.cgroups;
		assert_int_equal(match(facts), RULES_NO_ROW);
	}
}

/* All conditions of a row must hold, and a member counts only with its condition. */
static void test_all_conditions(void **state)
{
	struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, 0);
	struct rule_facts facts = some;
	const __u8 all = TPROXY_RULE_SET | TPROXY_RULE_PORT | TPROXY_RULE_UID | TPROXY_RULE_GID |
			 TPROXY_RULE_COMM | TPROXY_RULE_CGROUP;
	__u8 bit;

	memcpy(row->comm, some.comm, sizeof(row->comm));
	facts.sets.words[0] = facts.cgroups = 1;
	row->port_first = row->port_last = 443;
	row->uid_first = row->uid_last = 1000;
	row->gid_first = row->gid_last = 100;
	row->conditions = all;
	assert_int_equal(match(facts), 0);
	memset(&facts, 0, sizeof(facts)); /* nothing holds */
	facts.protocol = IPPROTO_TCP;
	for (bit = 1; bit < all; bit <<= 1) {
		row->conditions = bit;
		assert_int_equal(match(facts), RULES_NO_ROW);
	}
	row->conditions = 0;
	assert_int_equal(match(facts), 0);
}

/* The first row that holds decides, in each block and up to the last row. */
static void test_order(void **state)
{
	unsigned int i;

	for (i = 0; i < TPROXY_RULES_MAX; i++) {
		struct tproxy_rule *row = add(TPROXY_RULE_DIRECT, (__u16)i);

		row->conditions = TPROXY_RULE_UID;
		row->uid_first = row->uid_last = i;
	}
	for (i = 0; i < TPROXY_RULES_MAX; i++) {
		struct rule_facts facts = some;

		facts.uid = i;
		assert_int_equal(match(facts), i);
		rules.rows[i / 2].uid_first = 0;
		rules.rows[i / 2].uid_last = UINT32_MAX;
		assert_int_equal(match(facts), i / 2);
		rules.rows[i / 2].uid_first = rules.rows[i / 2].uid_last = i / 2;
	}
	assert_int_equal(match(some), RULES_NO_ROW);
}

/* An exception excludes the rows of its own rule, also those of the next blocks. */
static void test_unless(void **state)
{
	struct rule_facts facts = some;
	unsigned int last, i;

	add(TPROXY_RULE_SKIP, 0)->conditions = TPROXY_RULE_UID; /* root */
	for (i = 1; i < TPROXY_RULES_MAX; i++)
		add(TPROXY_RULE_REFUSE, 0)->conditions = i % 2 ? TPROXY_RULE_PORT : 0;
	for (last = 2; last < TPROXY_RULES_MAX; last += RULES_BLOCK / 2) {
		rules.n_rows = last + 1;
		facts.uid = 1;
		assert_int_equal(match(facts), 2);
		facts.uid = 0;
		assert_int_equal(match(facts), RULES_NO_ROW);
		rules.rows[last].group = 1; /* the next rule */
		assert_int_equal(match(facts), last);
		rules.rows[last].group = 0;
	}
}

/* Each of several exceptions is enough, and one that does not hold changes nothing. */
static void test_several_unless(void **state)
{
	struct rule_facts facts = some;
	struct tproxy_rule *row;

	add(TPROXY_RULE_SKIP, 7)->conditions = TPROXY_RULE_UID;
	row = add(TPROXY_RULE_SKIP, 7);
	row->conditions = TPROXY_RULE_GID;
	row->gid_first = row->gid_last = 5;
	add(TPROXY_RULE_REFUSE, 7);
	assert_int_equal(match(facts), 2);
	facts.gid = 5;
	assert_int_equal(match(facts), RULES_NO_ROW);
	facts.gid = 6;
	facts.uid = 0;
	assert_int_equal(match(facts), RULES_NO_ROW);
}

/* Loopback: only rows with a destination apply. An exception needs none. */
static void test_named_only(void **state)
{
	struct rule_facts facts = some;
	struct tproxy_rule *skip;

	facts.named_only = 1;
	facts.sets.words[0] = 1;
	add(TPROXY_RULE_DIRECT, 0);
	skip = add(TPROXY_RULE_SKIP, 1);
	skip->conditions = TPROXY_RULE_UID;
	add(TPROXY_RULE_REFUSE, 1)->conditions = TPROXY_RULE_SET;
	assert_int_equal(match(facts), 2);
	facts.uid = 0;
	assert_int_equal(match(facts), RULES_NO_ROW);
	facts.uid = 1;
	facts.sets.words[0] = 2;
	assert_int_equal(match(facts), RULES_NO_ROW);
	facts.named_only = 0;
	assert_int_equal(match(facts), 0);
}

/* --- random rule sets */

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

static __u32 below(__u32 n)
{
	return (__u32)random() % n;
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

/* --- names of cgroups */

/* At the end of an allocation, where a read beyond the name is noticed by ASan and valgrind. */
static bool name_matches(const struct tproxy_cgroup_test *test, const char *name)
{
	const size_t len = strlen(name);
	char *copy = malloc(len + 1);
	bool matches;

	assert_non_null(copy);
	memcpy(copy, name, len + 1);
	matches = rules_name_matches(test, copy, (__u32)len);
	free(copy);
	return matches;
}

static struct tproxy_cgroup_test pattern(const char *text)
{
	struct tproxy_cgroup_test test = {};
	const char *star = strchr(text, '*');

	test.exact = !star;
	test.prefix_len = (__u16)(star ? (size_t)(star - text) : strlen(text));
	test.suffix_len = (__u16)(star ? strlen(star + 1) : 0);
	memcpy(test.prefix, text, test.prefix_len);
	memcpy(test.suffix, star ? star + 1 : "", test.suffix_len);
	return test;
}

static void test_names(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool matches;
	} cases[] = {
		{ "app.service", "app.service", true },
		{ "app.service", "app.servic", false },
		{ "app.service", "app.servicf", false },
		{ "app.service", "app.service2", false },
		{ "app.service", "", false },
		{ "*", "", true }, /* the root */
		{ "*", "anything", true },
		{ "run-*", "run-", true },
		{ "run-*", "run", false },
		{ "run-*", "run-r1.scope", true },
		{ "run-*", "Run-r1.scope", false },
		{ "*.scope", ".scope", true },
		{ "*.scope", "run-r1.scope", true },
		{ "*.scope", "run-r1.scope1", false },
		{ "*.scope", "run-r1.scopf", false },
		{ "run-*.scope", "run-.scope", true },
		{ "run-*.scope", "run-r0123456789.scope", true },
		{ "run-*.scope", "run-r0123456789.service", false },
		{ "ab*ba", "aba", false }, /* the parts do not overlap */
		{ "ab*ba", "abba", true },
		{ "12345678*", "12345678", true },
		{ "12345678*", "12345679", false },
		{ "*12345678", "x12345678", true },
		{ "*12345678", "x22345678", false },
		{ "0123456789abcdef0123456789abcdef*", "0123456789abcdef0123456789abcdef", true },
		{ "0123456789abcdef0123456789abcdef0*", "0123456789abcdef0123456789abcdef1",
		  false },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tproxy_cgroup_test test = pattern(cases[i].pattern);

		print_message("%s %s\n", cases[i].pattern, cases[i].name);
		assert_int_equal(name_matches(&test, cases[i].name), cases[i].matches);
	}
}

static size_t random_text(char *text, size_t most)
{
	size_t len = below(8) ? below(12) : below((__u32)most + 1), i;

	if (len > most)
		len = most;
	for (i = 0; i < len; i++)
		text[i] = (char)('a' + below(16) / 15);
	text[len] = '\0';
	return len;
}

/* Names and patterns up to their full lengths, against memcmp(). */
static void test_random_names(void **state)
{
	char name[TPROXY_CGROUP_NAME_MAX + 1];
	int round, n_matches = 0;

	srandom(1);
	for (round = 0; round < NAME_ROUNDS; round++) {
		char prefix[TPROXY_CGROUP_PATTERN_LEN + 1], suffix[TPROXY_CGROUP_PATTERN_LEN + 1];
		size_t len = random_text(name, TPROXY_CGROUP_NAME_MAX);
		size_t n_prefix = random_text(prefix, TPROXY_CGROUP_PATTERN_LEN);
		size_t n_suffix = random_text(suffix, TPROXY_CGROUP_PATTERN_LEN);
		struct tproxy_cgroup_test test = { .exact = !below(4) };
		bool expected;

		if (test.exact)
			n_suffix = 0;
		test.prefix_len = (__u16)n_prefix;
		test.suffix_len = (__u16)n_suffix;
		memcpy(test.prefix, prefix, n_prefix);
		memcpy(test.suffix, suffix, n_suffix);
		expected = (test.exact ? len == n_prefix : len >= n_prefix + n_suffix) &&
			   memcmp(name, prefix, n_prefix) == 0 &&
			   memcmp(name + len - n_suffix, suffix, n_suffix) == 0;
		assert_int_equal(name_matches(&test, name), expected);
		n_matches += expected;
	}
	assert_in_range(n_matches, NAME_ROUNDS / 50, NAME_ROUNDS / 2);
}

/* Tests by id and by name have their own bits. */
static void test_cgroup_bits(void **state)
{
	unsigned int i;

	rules.n_cgroup_tests = TPROXY_CGROUP_TESTS_MAX;
	for (i = 0; i < TPROXY_CGROUP_TESTS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		rules.cgroup_tests[i] = pattern(name);
		if (i % 2) {
			rules.cgroup_tests[i] = pattern("by name");
			rules.cgroup_tests[i].cgroup_id = 100 + i;
		}
	}
	for (i = 0; i < TPROXY_CGROUP_TESTS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(rules_test_cgroup(&rules, 100 + i, name, (__u32)strlen(name)),
				 1ULL << i);
	}
	assert_int_equal(rules_test_cgroup(&rules, 0, "by name", 7), 0);
	rules.n_cgroup_tests = 1;
	assert_int_equal(rules_test_cgroup(&rules, 0, "n2", 2), 0);
	assert_int_equal(rules_test_cgroup(&rules, 0, "n0", 2), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_empty, clear),
		cmocka_unit_test_setup(test_protocol, clear),
		cmocka_unit_test_setup(test_set, clear),
		cmocka_unit_test_setup(test_port, clear),
		cmocka_unit_test_setup(test_uid, clear),
		cmocka_unit_test_setup(test_gid, clear),
		cmocka_unit_test_setup(test_command, clear),
		cmocka_unit_test_setup(test_cgroup, clear),
		cmocka_unit_test_setup(test_all_conditions, clear),
		cmocka_unit_test_setup(test_order, clear),
		cmocka_unit_test_setup(test_unless, clear),
		cmocka_unit_test_setup(test_several_unless, clear),
		cmocka_unit_test_setup(test_named_only, clear),
		cmocka_unit_test_setup(test_random, clear),
		cmocka_unit_test_setup(test_index_is_exact, clear),
		cmocka_unit_test_setup(test_most_ranges, clear),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_random_names),
		cmocka_unit_test_setup(test_cgroup_bits, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
