// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the conditions on cgroups (bpf/rules.bpf.h): which names a pattern matches, and the bit of
 * each condition that holds.
 */
#include "rule_rows.h"

#include <stdio.h>

#define NAME_ROUNDS 200000

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
		cmocka_unit_test_setup(test_names, clear),
		cmocka_unit_test_setup(test_random_names, clear),
		cmocka_unit_test_setup(test_cgroup_bits, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
