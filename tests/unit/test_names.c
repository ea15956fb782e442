// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests the lines of [names]: which line matches a name, against a model that tries each line. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "upstream/names.h"
#include "upstream_id.h"
#include "util.h"

static char error[NAMES_ERROR_LEN];

static int teardown(void **state)
{
	names_unref(*state);
	*state = NULL;
	return 0;
}

static void add(void **state, const char *pattern, const char *action)
{
	struct names *names = *state;
	unsigned int line = 10 + (unsigned int)names_count(names);

	assert_int_equal(names_parse_line(&names, line, pattern, action, error), 0);
	*state = names;
}

/* The number of the line that decides, of those from index from on; 0: none. */
static unsigned int find(void **state, const char *name, size_t from)
{
	struct names_match match;

	names_find(*state, name, from, &match);
	return match.line;
}

static void test_order(void **state)
{
	struct names_match match;

	assert_int_equal(find(state, "example.org", 0), 0);
	add(state, "intranet.Example.com", "direct");
	add(state, "*.example.com.", "via  corp");
	add(state, "intranet.example.com", "refuse");
	add(state, "*", "direct");
	add(state, "never.example.org", "via direct");
	assert_int_equal(find(state, "intranet.example.com", 0), 10);
	assert_int_equal(find(state, "intranet.example.com", 1), 11);
	assert_int_equal(find(state, "intranet.example.com", 2), 12);
	assert_int_equal(find(state, "intranet.example.com", 3), 13);
	assert_int_equal(find(state, "intranet.example.com", 4), 0);
	assert_int_equal(find(state, "a.b.example.com", 0), 11);
	/* Below the suffix only, and at a label. */
	assert_int_equal(find(state, "example.com", 0), 13);
	assert_int_equal(find(state, "badexample.com", 0), 13);
	assert_int_equal(find(state, "never.example.org", 0), 13);
	assert_int_equal(find(state, "never.example.org", 4), 14);
	names_find(*state, "a.example.com", 0, &match);
	assert_int_equal(match.action, NAMES_VIA);
	assert_string_equal(match.via, "corp");
	assert_int_equal(match.upstream, upstream_id("corp"));
	assert_int_equal(match.next, 2);
	names_get(*state, 2, &match);
	assert_int_equal(match.action, NAMES_REFUSE);
	assert_int_equal(match.error, ECONNREFUSED);
	names_get(*state, 4, &match);
	assert_int_equal(match.action, NAMES_DIRECT);
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *pattern, *action, *message;
	} mistakes[] = {
		{ "", "direct", "name \"\": expected a host name" },
		{ "*.", "direct", "name \"*.\"" },
		{ "a.*.org", "direct", "name \"a.*.org\"" },
		{ "*example.org", "direct", "name \"*example.org\"" },
		{ "192.0.2.1", "direct", "name \"192.0.2.1\"" },
		{ "a\nb", "direct", "name \"a\\x0ab\"" },
		{ "a.b", "", "action \"\": expected \"via NAME\"" },
		{ "a.b", "via", "action \"via\"" },
		{ "a.b", "via a b", "action \"via a b\"" },
		{ "a.b", "direct now", "action \"direct now\"" },
		{ "a.b", "refuse EINVAL", "errno \"EINVAL\": expected ECONNREFUSED, EACCES" },
		{ "a.b", "refuse EPERM x", "errno \"EPERM x\"" },
		{ "a.b", "allow", "action \"allow\"" },
	};
	struct names *names = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++) {
		assert_int_equal(
			names_parse_line(&names, 1, mistakes[i].pattern, mistakes[i].action, error),
			-EINVAL);
		assert_non_null(strstr(error, mistakes[i].message));
	}
	assert_null(names);
}

/* A line that no name gets to is refused. To see it fail: let is_final() return false. */
static void test_no_effect(void **state)
{
	static const struct {
		const char *pattern, *action;
		unsigned int before; /* the line that decides; 0: the line is accepted */
	} lines[] = {
		/* These decide only if the address is one of the name's. */
		{ "a.example.org", "direct", 0 },
		{ "a.example.org", "via b", 0 },
		{ "A.example.org.", "refuse", 0 },
		{ "a.example.org", "refuse", 0 },
		{ "a.example.org", "refuse EACCES", 12 },
		{ "a.example.org", "direct", 12 },
		{ "x.a.example.org", "direct", 0 },
		{ "*.example.org", "refuse EACCES", 0 },
		{ "b.example.org", "direct", 15 },
		{ "*.b.example.org", "via b", 15 },
		{ "example.org", "direct", 0 },
		{ "*", "direct", 0 },
		{ "*", "via b", 0 },
		{ "*", "via b", 0 },
		{ "*", "via c", 18 },
		{ "other.example", "via b", 0 },
		{ "other.example", "refuse", 18 },
		/* The first one that decides is the one to tell. */
		{ "b.example.org", "via b", 15 },
	};
	struct names *names = NULL;
	char expected[32];
	unsigned int line = 10;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		*error = '\0';
		r = names_parse_line(&names, line, lines[i].pattern, lines[i].action, error);
		*state = names;
		assert_int_equal(r, lines[i].before ? -EINVAL : 0);
		snprintf(expected, sizeof(expected), "without effect: line %u ", lines[i].before);
		assert_int_equal(!!strstr(error, expected), lines[i].before > 0);
		line += lines[i].before == 0;
	}
}

/* The definition of a match. */
static bool matches(const char *pattern, const char *name)
{
	const char *suffix = pattern + 1;

	if (*pattern != '*')
		return strcmp(pattern, name) == 0;
	return strlen(name) > strlen(suffix) &&
	       strcmp(name + strlen(name) - strlen(suffix), suffix) == 0;
}

static void random_name(char *buf, bool pattern)
{
	int labels = 1 + rand() % 4;

	*buf = '\0';
	if (pattern && rand() % 3 == 0)
		strcpy(buf, "*.");
	if (pattern && rand() % 50 == 0) {
		strcpy(buf, "*");
		return;
	}
	while (labels-- > 0)
		sprintf(buf + strlen(buf), "%c%s", 'a' + rand() % 4, labels ? "." : "");
}

static void test_against_model(void **state)
{
	static char patterns[400][16];
	char name[16];
	size_t i, n, from, wanted;
	int round;

	srand(1);
	for (round = 0; round < 50; round++) {
		n = 1 + (size_t)rand() % ARRAY_SIZE(patterns);
		for (i = 0; i < n; i++) {
			random_name(patterns[i], true);
			add(state, patterns[i], "direct");
		}
		for (i = 0; i < 200; i++) {
			random_name(name, false);
			from = (size_t)rand() % n;
			for (wanted = from; wanted < n && !matches(patterns[wanted], name);)
				wanted++;
			assert_int_equal(find(state, name, from),
					 wanted < n ? 10 + (unsigned int)wanted : 0);
		}
		teardown(state);
	}
}

/*
 * A lookup does not depend on the number of lines. One that did would take 100,000 lines some
 * hundred microseconds; the limit is CPU time of a slow machine with
 * sanitizers.
 * To see it fail: let find_slot() begin at slot 0.
 */
static void test_many_lines(void **state)
{
	enum {
		LINES = 100000,
		LOOKUPS = 20000
	};
	char pattern[64];
	clock_t start;
	int i;

	for (i = 0; i < LINES; i++) {
		snprintf(pattern, sizeof(pattern), "%shost%d.example.org", i % 2 ? "*." : "", i);
		add(state, pattern, "via corp");
	}
	start = clock();
	for (i = 0; i < LOOKUPS; i++) {
		snprintf(pattern, sizeof(pattern), "a.b.host%d.example.org", i | 1);
		assert_int_equal(find(state, pattern, 0), 10 + (i | 1));
	}
	assert_in_range(clock() - start, 0, 2 * CLOCKS_PER_SEC);
}

static void test_references(void **state)
{
	struct names *second;

	add(state, "a.example", "direct");
	second = names_ref(*state);
	names_unref(second);
	assert_int_equal(find(state, "a.example", 0), 10);
	names_unref(NULL);
	assert_null(names_ref(NULL));
	assert_int_equal(names_count(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_order, teardown),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test_teardown(test_no_effect, teardown),
		cmocka_unit_test_teardown(test_against_model, teardown),
		cmocka_unit_test_teardown(test_many_lines, teardown),
		cmocka_unit_test_teardown(test_references, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
