// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests which row of rules holds (bpf/rules.bpf.h): each condition alone, the order of rows, and
 * the exceptions of `unless`.
 */
#include "rule_rows.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
