// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests common/optparse.c: how a command line is split into options and operands. */
#include "optparse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "unit.h"
#include "util.h"

static const struct optparse_option table[] = {
	{ "fail-closed", 0x100, false }, { "fail", 0x101, false },  { "relay-cgroup", 'r', true },
	{ "relay-group", 'g', true },	 { "verbose", 'v', false }, {},
};

static struct optparse p;
static const char *value;
static char error[OPTPARSE_ERROR_LEN];

#define begin(...) begin_args((char *[]){ "program", ##__VA_ARGS__, NULL })

static void begin_args(char **argv)
{
	static char *copy[16];
	int argc = 0;

	do
		copy[argc] = argv[argc];
	while (argv[argc++]);
	optparse_init(&p, argc - 1, copy, table);
}

static void expect(int val, const char *expected)
{
	assert_int_equal(optparse_next(&p, &value, error), val);
	if (expected)
		assert_string_equal(value, expected);
	else
		assert_null(value);
}

static void expect_error(const char *text)
{
	assert_int_equal(optparse_next(&p, &value, error), -EINVAL);
	assert_string_equal(error, text);
}

/* To see it red: take '=' for the first character of the value. */
static void test_equals_after_short(void **state)
{
	begin("-r=/a");
	expect_error("option '-r' takes its value without '=': '-r=/a'");
	begin("-vr=/a");
	expect('v', NULL);
	expect_error("option '-r' takes its value without '=': '-r=/a'");
	begin("-r", "=/a");
	expect('r', "=/a");
}

static void test_forms(void **state)
{
	begin("-v", "--relay-cgroup", "/a", "--relay-cgroup=/b=c", "-r", "/d", "-r/e", "-vr", "/f",
	      "x", "--fail-closed", "-");
	expect('v', NULL);
	expect('r', "/a");
	expect('r', "/b=c");
	expect('r', "/d");
	expect('r', "/e");
	expect('v', NULL);
	expect('r', "/f");
	expect(OPTPARSE_OPERAND, "x");
	expect(0x100, NULL);
	expect(OPTPARSE_OPERAND, "-");
	expect(OPTPARSE_END, NULL);
	expect(OPTPARSE_END, NULL);
	begin("-v", "--", "-v", "--", "--fail");
	expect('v', NULL);
	expect(OPTPARSE_OPERAND, "-v");
	expect(OPTPARSE_OPERAND, "--");
	expect(OPTPARSE_OPERAND, "--fail");
	expect(OPTPARSE_END, NULL);
	begin("--relay-group=", "-g", "");
	expect('g', "");
	expect('g', "");
	begin("-r", "-v", "--relay-cgroup", "-1");
	expect('r', "-v");
	expect('r', "-1");
	assert_string_equal(optparse_name(table, 'g'), "relay-group");
}

/* To see it red: compare only as much of a name as was given. */
static void test_abbreviations(void **state)
{
	begin("--fail");
	expect(0x101, NULL);
	begin("--fai");
	expect_error("'--fai' is incomplete: --fail-closed or --fail");
	begin("--relay=/x");
	expect_error("'--relay' is incomplete: --relay-cgroup or --relay-group");
	begin("--v");
	expect_error("'--v' is incomplete: --verbose");
	begin("--verbosee");
	expect_error("unknown option '--verbosee'");
	begin("--=x");
	expect_error("unknown option '--=x'");
}

static void test_errors(void **state)
{
	begin("--relay-cgroup");
	expect_error("option '--relay-cgroup' wants a value");
	begin("-vr");
	expect('v', NULL);
	expect_error("option '-r' wants a value");
	begin("-r", "--verbose");
	expect_error("option '-r' wants a value, '--verbose' is an option");
	begin("--relay-cgroup", "--");
	expect_error("option '--relay-cgroup' wants a value, '--' is an option");
	begin("--verbose=yes");
	expect_error("option '--verbose' takes no value: '--verbose=yes'");
	begin("-vx");
	expect('v', NULL);
	expect_error("unknown option '-x'");
	begin("-\1");
	expect_error("unknown option '-\1'");
}

/* The message holds as much of a long word as fits, and ends with a NUL. */
static void test_long_words(void **state)
{
	char word[4096];

	memset(word, 'x', sizeof(word) - 1);
	memcpy(word, "--", 2);
	word[sizeof(word) - 1] = '\0';
	begin(word);
	assert_int_equal(optparse_next(&p, &value, error), -EINVAL);
	assert_int_equal(strlen(error), OPTPARSE_ERROR_LEN - 1);
	begin("-r", word);
	assert_int_equal(optparse_next(&p, &value, error), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),	      cmocka_unit_test(test_equals_after_short),
		cmocka_unit_test(test_abbreviations), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_long_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
