// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests what rules compile to: rows, sets, prefixes, barriers, limits. test_rules_decisions.c tests
 * what follows from it for connections.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "compiled.h"
#include "unit.h"
#include "upstream_id.h"
#include "util.h"

static int compile_text(const char *rules)
{
	int r;

	rule_text_len = (size_t)snprintf(rule_text, sizeof(rule_text), "%s", rules);
	r = parse();
	return r < 0 ? r : compile();
}

static void must_compile(const char *rules)
{
	const int r = compile_text(rules);

	if (r < 0)
		rules_messages_print(&compiled.messages, stderr);
	assert_int_equal(r, 0);
}

static void must_fail(const char *rules, const char *message)
{
	assert_int_equal(compile_text(rules), -EINVAL);
	if (!strstr(compiled.messages.errors[0].text, message))
		fail_msg("%s", compiled.messages.errors[0].text);
	finish(NULL);
}

static void test_rows(void **state)
{
	const struct tproxy_rule *rows = compiled.rules.rows;

	must_compile("direct to 10.0.0.0/8 port 1-2, 3 uid 5, 6, 7 unless port 9 unless gid 1, 2\n"
		     "refuse EPERM udp command a-command-of-17-b cgroup name:a*b name x\n"
		     "default refuse EACCES");
	assert_int_equal(compiled.n_rules, 2);
	assert_int_equal(compiled.list[0].n_rows, 3 + 6);
	assert_int_equal(compiled.list[1].first_row, 9);
	assert_int_equal(compiled.rules.n_rows, 10);
	assert_int_equal(rows[0].action, TPROXY_RULE_SKIP);
	assert_int_equal(rows[0].port_first, 9);
	assert_int_equal(rows[2].gid_last, 2);
	assert_int_equal(rows[3].conditions, TPROXY_RULE_SET | TPROXY_RULE_PORT | TPROXY_RULE_UID);
	assert_int_equal(rows[3].port_last, 2);
	assert_int_equal(rows[8].uid_first, 7);
	assert_int_equal(rows[9].protocol, IPPROTO_UDP);
	assert_int_equal(rows[9].error, EPERM);
	assert_int_equal(rows[9].group, 1);
	assert_memory_equal(rows[9].comm, "a-command-of-17", TPROXY_COMM_LEN);
	assert_int_equal(compiled.rules.cgroup_tests[0].prefix_len, 1);
	assert_int_equal(compiled.rules.needs, TPROXY_NEEDS_SETS | TPROXY_NEEDS_COMM |
						       TPROXY_NEEDS_CGROUP | TPROXY_NEEDS_UDP);
	assert_int_equal(compiled.rules.default_action, TPROXY_RULE_REFUSE);
	assert_int_equal(compiled.rules.default_error, EACCES);
	assert_string_equal(compiled.list[1].name, "x");
	assert_string_equal(compiled.by_default.text, "default refuse EACCES");
	assert_true(compiled.has_udp);
	assert_false(compiled.has_observe);
}

/* To see it fail: give the rows of exceptions the flags too, or leave out the default's. */
static void test_connect(void **state)
{
	const struct tproxy_rule *rows = compiled.rules.rows;

	must_compile("redirect honest port 1, 2 unless uid 0\n"
		     "redirect eager via a port 3\n"
		     "redirect port 4\n"
		     "default redirect honest");
	assert_int_equal(rows[0].action, TPROXY_RULE_SKIP);
	assert_int_equal(rows[0].flags, 0);
	assert_int_equal(rows[1].flags, TPROXY_RULE_HONEST);
	assert_int_equal(rows[2].flags, TPROXY_RULE_HONEST);
	assert_int_equal(rows[3].flags, TPROXY_RULE_EAGER);
	assert_int_equal(rows[4].flags, 0);
	assert_int_equal(compiled.rules.default_flags, TPROXY_RULE_HONEST);
	finish(NULL);
	must_compile("default redirect eager");
	assert_int_equal(compiled.rules.default_flags, TPROXY_RULE_EAGER);
	finish(NULL);
	must_compile("redirect port 1");
	assert_int_equal(compiled.rules.default_flags, 0);
}

/* To see it fail: give the rows of exceptions the upstream too, or leave out the default's. */
static void test_via(void **state)
{
	const struct tproxy_rule *rows = compiled.rules.rows;

	must_compile("redirect via squid port 1, 2 unless uid 0\n"
		     "redirect port 3 via \"direct\" name x\n"
		     "redirect port 4\n"
		     "direct port 5\n"
		     "default redirect via corp-2_B");
	assert_int_equal(rows[0].action, TPROXY_RULE_SKIP);
	assert_int_equal(rows[0].upstream, 0);
	assert_int_equal(rows[1].upstream, upstream_id("squid"));
	assert_int_equal(rows[2].upstream, upstream_id("squid"));
	assert_int_equal(rows[3].upstream, upstream_id("direct"));
	assert_int_equal(rows[4].upstream, 0);
	assert_int_equal(rows[5].upstream, 0);
	assert_int_equal(compiled.rules.default_upstream, upstream_id("corp-2_B"));
	assert_string_equal(compiled.list[0].upstream, "squid");
	assert_string_equal(compiled.list[2].upstream, "");
	assert_string_equal(compiled.list[0].text, "redirect via squid port 1, 2 unless uid 0");
	assert_string_equal(compiled.by_default.upstream, "corp-2_B");
	assert_string_equal(compiled.by_default.text, "default redirect via corp-2_B");
	/* Rules that differ in their upstream are different rules, with counters of their own. */
	assert_true(compiled.by_default.hash != compiled.list[2].hash);
	finish(NULL);

	/* An upstream that is named twice counts once, and 64 fit. */
	must_compile("redirect via a port 1\nredirect via b port 2\ndefault redirect via a");
	assert_string_equal(compiled.rules.upstreams[1], "b");
	assert_string_equal(compiled.rules.upstreams[2], "");
	assert_string_equal(rules_find_upstream(&compiled.rules, upstream_id("b")), "b");
	assert_null(rules_find_upstream(&compiled.rules, upstream_id("c")));
	finish(NULL);
	must_compile("redirect via a");
	assert_int_equal(compiled.rules.default_upstream, 0);
}

static void test_empty(void **state)
{
	must_compile("");
	assert_int_equal(compiled.rules.n_rows, 0);
	assert_int_equal(compiled.rules.needs, 0);
	assert_int_equal(compiled.rules.default_action, TPROXY_RULE_REDIRECT);
	assert_int_equal(compiled.n_prefixes, 0);
	assert_string_equal(compiled.by_default.text, "default redirect");
	assert_int_equal(compiled.by_default.line, 0);
}

/* Equal lists share a bit, and `to @a` has the bit of the set. */
static void test_sets(void **state)
{
	must_compile("set a = 10.0.0.0/8, 10.0.0.1\nset b = 192.0.2.0/24\nset unused = 1.1.1.1\n"
		     "direct to @a\ndirect to @a, 192.0.2.1\ndirect to @a, @b\n"
		     "refuse to @a, 192.0.2.1\nobserve to @a unless to @b");
	assert_int_equal(compiled.n_sets, 4);
	assert_string_equal(compiled.sets[0].name, "a");
	assert_int_equal(compiled.sets[0].line, 1);
	assert_string_equal(compiled.sets[1].name, "line 5");
	assert_int_equal(compiled.sets[1].n_prefixes, 3);
	assert_string_equal(compiled.sets[2].name, "line 6");
	assert_int_equal(compiled.sets[2].n_prefixes, 3);
	assert_string_equal(compiled.sets[3].name, "b");
	assert_int_equal(compiled.rules.rows[3].set, compiled.rules.rows[1].set);
	/* 10.0.0.1 is left out: it has the same bits as 10.0.0.0/8. */
	assert_int_equal(compiled.n_prefixes, 3);
	assert_int_equal(compiled.prefixes[0].n_bits, 96 + 8);
	assert_true(compiled.bits[0].words[0] == (1 << 0 | 1 << 1 | 1 << 2));
	assert_true(compiled.bits[1].words[0] == (1 << 2 | 1 << 3));
	/* 192.0.2.1 has the bits of its network too. */
	assert_true(compiled.bits[2].words[0] == (1 << 1 | 1 << 2 | 1 << 3));
	assert_int_equal(compiled.n_rules, 5);
}

static struct tproxy_set_bits bits_of(const char *address)
{
	__u8 addr[16];

	read_address(address, addr);
	return look_up(addr);
}

/* Prefixes that contain loopback, or IPv4, and more. */
static void test_barriers(void **state)
{
	static const char *const outside[] = { "127.0.0.1", "0.0.0.0", "::1", "::" };
	size_t i;

	must_compile("direct to ::/0\nrefuse to 0.0.0.0/0\nobserve to 10.0.0.0/8");
	assert_false(compiled.names_loopback);
	assert_int_equal(compiled.rules.needs & TPROXY_NEEDS_LOOPBACK, 0);
	assert_int_equal(bits_of("2001:db8::1").words[0], 1 << 0);
	assert_int_equal(bits_of("::2").words[0], 1 << 0);
	assert_int_equal(bits_of("192.0.2.1").words[0], 1 << 1);
	assert_int_equal(bits_of("0.0.0.1").words[0], 1 << 1);
	assert_int_equal(bits_of("10.0.0.1").words[0], 1 << 1 | 1 << 2);
	for (i = 0; i < ARRAY_SIZE(outside); i++)
		assert_int_equal(bits_of(outside[i]).words[0], 0);
	finish(NULL);

	must_compile("direct to ::/0\nrefuse to 127.0.0.1");
	assert_true(compiled.names_loopback);
	assert_int_equal(compiled.rules.needs, TPROXY_NEEDS_SETS | TPROXY_NEEDS_LOOPBACK);
	assert_int_equal(bits_of("127.0.0.1").words[0], 1 << 1);
	assert_int_equal(bits_of("127.0.0.2").words[0], 0);
	finish(NULL);

	/* A set that no rule has does not count. */
	must_compile("set a = 127.0.0.1\ndirect to 10.0.0.1");
	assert_false(compiled.names_loopback);
	assert_int_equal(compiled.n_prefixes, 1);
}

/* Cgroups are tested once, however many rules name them. */
static void test_cgroups(void **state)
{
	must_compile("direct cgroup /1, name:a*b port 1\nrefuse cgroup name:a*b, /1/2\n"
		     "observe cgroup /1 unless cgroup name:a");
	assert_int_equal(compiled.rules.n_cgroup_tests, 4);
	assert_true(compiled.rules.cgroup_tests[2].cgroup_id == 12);
	assert_int_equal(compiled.rules.cgroup_tests[2].level, 2);
	assert_int_equal(compiled.rules.rows[2].cgroup, 1);
	assert_int_equal(compiled.rules.cgroup_tests[3].exact, 1);
	assert_int_equal(compiled.rules.cgroup_tests[1].exact, 0);
}

static void test_limits(void **state)
{
	static char rules[65536];
	size_t i, len;

	must_fail("direct port 1\nrefuse port 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 uid "
		  "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16",
		  "found 257; a rule takes one for each combination of its lists, and this one "
		  "most: 256 (16 ports x 16 users)");
	must_fail("direct port 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 gid "
		  "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 unless uid 1,2",
		  "258 (16 ports x 16 groups + 2 for unless)");
	must_compile("refuse port 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 uid "
		     "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16");
	assert_int_equal(compiled.rules.n_rows, TPROXY_RULES_MAX);
	finish(NULL);

	for (i = 0, len = 0; i <= TPROXY_CGROUP_TESTS_MAX; i++)
		len += (size_t)sprintf(rules + len, "direct cgroup name:%zu\n", i);
	must_fail(rules, "at most 64 different cgroups");
	for (i = 0, len = 0; i < TPROXY_RULE_UPSTREAMS_MAX; i++)
		len += (size_t)sprintf(rules + len, "redirect via u%zu\n", i);
	must_compile(rules);
	finish(NULL);
	sprintf(rules + len, "default redirect via other\n");
	must_fail(rules, "at most 64 different upstreams");
	/* 128 rules, each with a list and an exception, are as many sets as there can be. */
	for (i = 0, len = 0; i < 128; i++)
		len += (size_t)sprintf(rules + len, "direct to 10.0.%zu.1 unless to 10.0.%zu.2\n",
				       i, i);
	must_compile(rules);
	assert_int_equal(compiled.n_sets, TPROXY_SETS_MAX);
	assert_true(compiled.bits[compiled.n_prefixes - 1].words[3] == UINT64_C(1) << 62);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_rows, finish),
		cmocka_unit_test_teardown(test_connect, finish),
		cmocka_unit_test_teardown(test_via, finish),
		cmocka_unit_test_teardown(test_empty, finish),
		cmocka_unit_test_teardown(test_sets, finish),
		cmocka_unit_test_teardown(test_barriers, finish),
		cmocka_unit_test_teardown(test_cgroups, finish),
		cmocka_unit_test_teardown(test_limits, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
