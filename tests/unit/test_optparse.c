// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests common/optparse.c and common/optable.c: how a command line is split into options, what each
 * type of value accepts, defaults, keys of a file, and what a reload may change.
 */
#include "optparse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"
#include "unit.h"
#include "util.h"

enum colour {
	RED,
	GREEN,
};

struct values {
	char seen[256]; /* what set_seen() got: "NAME=VALUE " for each */
	bool verbose;
	char path[PATH_MAX], once[PATH_MAX];
	uint32_t number, size;
	uint64_t duration, seconds;
	enum colour colour;
	char config[PATH_MAX];
};

static int set_seen(const struct optable_row *row, void *options, const char *value,
		    unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct values *v = options;
	size_t used = strlen(v->seen);

	if (strcmp(value, "bad") == 0)
		return optable_refuse(error, "'%s' at %u", value, line);
	snprintf(v->seen + used, sizeof(v->seen) - used, "%s=%s ", row->name, value);
	return 0;
}

static const char *const colours[] = { [RED] = "red", [GREEN] = "green", NULL };

#define ONE (1U << 0)
#define TWO (1U << 1)

static const struct optable_row rows[] = {
	{ .name = "fail-closed", OPTABLE_CUSTOM(set_seen), .commands = ONE | TWO },
	{ .name = "fail", OPTABLE_CUSTOM(set_seen) },
	{
		.name = "relay-cgroup",
		.short_name = 'r',
		.arg = "PATH",
		OPTABLE_CUSTOM(set_seen),
		.flags = OPTABLE_KEY | OPTABLE_REPEATED,
	},
	{ .name = "relay-group", .short_name = 'g', .arg = "GROUP", OPTABLE_CUSTOM(set_seen) },
	{ .name = "two", .short_name = 't', OPTABLE_CUSTOM(set_seen), .commands = TWO },
	{
		.name = "verbose",
		.short_name = 'v',
		OPTABLE_FLAG(struct values, verbose),
		.flags = OPTABLE_KEY,
	},
	{
		.name = "path",
		.arg = "FILE",
		OPTABLE_PATH(struct values, path),
		.by_default = "/default",
		.flags = OPTABLE_FIXED,
	},
	{ .name = "once", .arg = "FILE", OPTABLE_PATH(struct values, once), .flags = OPTABLE_ONCE },
	{
		.name = "number",
		.arg = "N",
		OPTABLE_NUMBER(struct values, number, 2, 9),
		.by_default = "3",
		.flags = OPTABLE_KEY | OPTABLE_FIXED,
	},
	{
		.name = "size",
		.arg = "SIZE",
		OPTABLE_SIZE(struct values, size, 4 << 10, 1 << 20),
		.by_default = "64K",
		.flags = OPTABLE_ZERO,
	},
	{
		.name = "duration",
		.arg = "DURATION",
		OPTABLE_DURATION(struct values, duration),
		.by_default = "1h",
	},
	{
		.name = "seconds",
		.arg = "DURATION",
		OPTABLE_DURATION_IN(struct values, seconds, 1000, 9000),
		.unit = 1000,
		.by_default = "5s",
	},
	{
		.name = "colour",
		.arg = "COLOUR",
		OPTABLE_WORD(struct values, colour, enum colour, colours),
		.by_default = "green",
	},
	{
		.name = "config",
		.short_name = 'f',
		.arg = "FILE",
		.type = OPTABLE_TYPE_CONFIG,
		OPTABLE_MEMBER(struct values, config, char[PATH_MAX]),
	},
};

static struct optable table = {
	.program = "program",
	.section = "relay",
	.command = ONE,
	.rows = rows,
	.n_rows = ARRAY_SIZE(rows),
};

static struct values v;
static struct optparse_given given;

/* parse() has the log written to log_fd; cmocka's messages go to the original stderr. */
static int log_fd, stderr_fd;

#define parse(...) parse_args((char *[]){ "program", ##__VA_ARGS__, NULL })

static int parse_args(char **argv)
{
	int argc = 0, r;

	while (argv[argc])
		argc++;
	v = (struct values){};
	assert_return_code(ftruncate(log_fd, 0), errno);
	assert_int_equal(lseek(log_fd, 0, SEEK_SET), 0);
	assert_return_code(dup2(log_fd, STDERR_FILENO), errno);
	r = optparse_read(&table, argc, argv, &v, &given);
	assert_return_code(dup2(stderr_fd, STDERR_FILENO), errno);
	return r;
}

static void expect_seen(int r, const char *seen)
{
	assert_int_equal(r, 0);
	assert_string_equal(v.seen, seen);
}

/* The log has this one line, with a hint to --help. */
static void expect_error(int r, const char *text)
{
	char line[2 * OPTABLE_ERROR_LEN] = "", expected[2 * OPTABLE_ERROR_LEN];

	assert_int_equal(r, -EINVAL);
	assert_true(pread(log_fd, line, sizeof(line) - 1, 0) > 0);
	snprintf(expected, sizeof(expected), "test: %s; try 'program --help'\n", text);
	assert_string_equal(line, expected);
}

static int log_to_file(void **state)
{
	log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(log_fd >= 0);
	stderr_fd = dup(STDERR_FILENO);
	assert_true(stderr_fd >= 0);
	unsetenv("JOURNAL_STREAM");
	log_init("test", LOG_LEVEL_INFO);
	return 0;
}

/* To see it fail: accept '=' as the first character of the value. */
static void test_equals_after_short(void **state)
{
	expect_error(parse("-r=/a"), "option '-r' takes its value without '=': '-r=/a'");
	expect_error(parse("-vr=/a"), "option '-r' takes its value without '=': '-r=/a'");
	expect_seen(parse("-r", "=/a"), "relay-cgroup==/a ");
}

static void test_forms(void **state)
{
	expect_seen(parse("-v", "--relay-cgroup", "/a", "--relay-cgroup=/b=c", "-r", "/d", "-r/e",
			  "-vr", "/f", "--fail-closed"),
		    "relay-cgroup=/a relay-cgroup=/b=c relay-cgroup=/d relay-cgroup=/e "
		    "relay-cgroup=/f fail-closed=yes ");
	assert_true(v.verbose);
	expect_seen(parse("--relay-group=", "-g", ""), "relay-group= relay-group= ");
	expect_seen(parse("-r", "-v", "--relay-cgroup", "-1"), "relay-cgroup=-v relay-cgroup=-1 ");
	assert_false(v.verbose);
	expect_seen(parse("-v", "--"), "");
}

static void test_operands(void **state)
{
	expect_error(parse("-v", "x", "--nonsense"), "unexpected argument 'x'");
	expect_error(parse("-"), "unexpected argument '-'");
	expect_error(parse("-v", "--", "-v"), "unexpected argument '-v'");
	expect_error(parse("--", "--", "x"), "unexpected argument '--'");
}

static int add_seen(void *options, const char *value, char error[OPTABLE_ERROR_LEN])
{
	static const struct optable_row operand = { .name = "operand" };

	return set_seen(&operand, options, value, 0, error);
}

/* A command line follows the options, and has options of its own. */
static void test_command_line(void **state)
{
	table.add_operand = add_seen;
	expect_seen(parse("x", "-v"), "operand=x ");
	assert_true(v.verbose);
	table.operands_last = true;
	expect_seen(parse("-v", "x", "-v", "--", "--nonsense", ""),
		    "operand=x operand=-v operand=-- operand=--nonsense operand= ");
	expect_seen(parse("--", "-v", "--", "x"), "operand=-v operand=-- operand=x ");
	assert_false(v.verbose);
	expect_error(parse("--nonsense", "x"), "unknown option '--nonsense'");
	table.add_operand = NULL;
	table.operands_last = false;
}

/* To see it fail: leave out find_exact() in check_option(). */
static void test_abbreviations(void **state)
{
	expect_seen(parse("--fail"), "fail=yes ");
	expect_error(parse("--fai"), "option '--fai' is incomplete: --fail-closed or --fail");
	expect_error(parse("--relay=/x"),
		     "option '--relay' is incomplete: --relay-cgroup or --relay-group");
	expect_error(parse("--ver"), "option '--ver' is incomplete: --verbose");
	expect_error(parse("--ver=yes"), "option '--ver' is incomplete: --verbose");
	expect_error(parse("--relay-c"), "option '--relay-c' is incomplete: --relay-cgroup");
	expect_error(parse("--verbosee"), "unknown option '--verbosee'");
	expect_error(parse("--=x"), "unknown option '--=x'");
}

static void test_errors(void **state)
{
	expect_error(parse("--relay-cgroup"), "option '--relay-cgroup' requires an argument");
	expect_error(parse("-vr"), "option '-r' requires an argument");
	expect_error(parse("-r", "--verbose"),
		     "option '-r' requires an argument, '--verbose' is an option");
	expect_error(parse("--relay-cgroup", "--"),
		     "option '--relay-cgroup' requires an argument, '--' is an option");
	expect_error(parse("--verbose=yes"),
		     "option '--verbose' takes no argument: '--verbose=yes'");
	expect_error(parse("-vx"), "unknown option '-x'");
	expect_error(parse("-:"), "unknown option '-:'");
	expect_error(parse("-\1"), "unknown option '-\\x01'");
	expect_error(parse("-f", "/a", "--config=/b"), "--config was given twice: '/a' and '/b'");
	expect_error(parse("--once=/a", "--once", "/b"), "--once was given twice: '/a' and '/b'");
}

/* The message holds as much of a long word as fits. */
static void test_long_words(void **state)
{
	static char word[4096];

	memset(word, 'x', sizeof(word) - 1);
	memcpy(word, "--", 2);
	assert_int_equal(parse(word), -EINVAL);
	assert_int_equal(parse("-r", word), -EINVAL);
	assert_int_equal(parse("--number", word + 2), -EINVAL);
	expect_error(parse("--path", word + 2, "--path", ""), "--path: the path is empty");
}

static void test_values(void **state)
{
	assert_int_equal(parse(), 0);
	assert_string_equal(v.path, "/default");
	assert_int_equal(v.number, 3);
	assert_int_equal(v.size, 65536);
	assert_int_equal(v.duration, 3600000);
	assert_int_equal(v.seconds, 5000);
	assert_int_equal(v.colour, GREEN);
	assert_int_equal(given.on_command_line, 0);
	assert_int_equal(parse("--number=9", "--size=0", "--duration=168h", "--seconds=0",
			       "--colour=red", "--path=/x"),
			 0);
	assert_string_equal(v.path, "/x");
	assert_int_equal(v.number, 9);
	assert_int_equal(v.size, 0);
	assert_int_equal(v.duration, 168 * 3600 * 1000);
	assert_int_equal(v.seconds, 0);
	assert_int_equal(v.colour, RED);
	assert_true(optparse_has(&table, given.on_command_line, "colour"));
	assert_false(optparse_has(&table, given.on_command_line, "verbose"));
}

/* Each message names the value and the range. */
static void test_ranges(void **state)
{
	expect_error(parse("--number=1"), "--number: '1' is not a number from 2 to 9");
	expect_error(parse("--number=10"), "--number: '10' is not a number from 2 to 9");
	expect_error(parse("--size=2M"),
		     "--size: '2M' is not a size from 4K to 1M, such as 64K, or 0 for none");
	expect_error(
		parse("--duration=169h"),
		"--duration: '169h' is not a duration from 1ms to 168h, such as 500ms, 10s, 5m, or 0 for never");
	expect_error(
		parse("--seconds=1500ms"),
		"--seconds: '1500ms' is not a duration of whole seconds from 1s to 9s, such as 10s, 5m, or 0 for never");
	assert_int_equal(parse("--seconds=10s"), -EINVAL);
	expect_error(parse("--colour=blue"), "--colour: 'blue' is not one of red, green");
	expect_error(parse("--relay-group=bad"), "--relay-group: 'bad' at 0");
}

/* To see it fail: let optable_takes() return true. */
static void test_commands(void **state)
{
	expect_error(parse("--two"), "unknown option '--two'");
	expect_error(parse("-t"), "unknown option '-t'");
	table.command = TWO;
	expect_seen(parse("-t", "--fail-closed"), "two=yes fail-closed=yes ");
	table.command = ONE;
}

static void test_file(void **state)
{
	char path[] = "/tmp/tproxy-test-XXXXXX";
	FILE *f;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	assert_non_null(f);
	fputs("[load]\nall = yes\n[relay]\nverbose = yes\nnumber = 7\nrelay-cgroup = /a\n"
	      "relay-cgroup = /b\n",
	      f);
	fflush(f);
	expect_seen(parse("--number=8", "-f", path), "relay-cgroup=/a relay-cgroup=/b ");
	assert_int_equal(v.number, 8);
	assert_true(v.verbose && given.file_has_others);
	assert_string_equal(v.config, path);
	assert_true(optparse_has(&table, given.in_file, "number"));
	fputs("path = /x\n", f); /* no key */
	fflush(f);
	assert_int_equal(parse("-f", path), -EINVAL);
	fclose(f);
	unlink(path);
}

/* To see it fail: compare the bytes after the end of a path. */
static void test_changed(void **state)
{
	struct values before;

	assert_int_equal(parse("--path=/a/long/path", "--path=/a"), 0);
	before = v;
	assert_int_equal(parse("--path=/a", "--size=4K", "-v"), 0);
	assert_null(optable_changed(&table, &before, &v));
	assert_int_equal(parse("--path=/b"), 0);
	assert_string_equal(optable_changed(&table, &before, &v), "path");
	assert_int_equal(parse("--path=/a", "--number=4"), 0);
	assert_string_equal(optable_changed(&table, &before, &v), "number");
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void add_seen_text(void *options, const char *fmt, ...) _printf_(2, 3);
static void add_seen_text(void *options, const char *fmt, ...)
{
	struct values *values = options;
	size_t used = strlen(values->seen);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(values->seen + used, sizeof(values->seen) - used, fmt, ap);
	va_end(ap);
}

static int begin_seen(void *options, const char *section, const char *name, unsigned int line,
		      char error[OPTABLE_ERROR_LEN])
{
	if (name && strcmp(name, "bad") == 0)
		return optable_refuse(error, "bad section");
	add_seen_text(options, "%u[%s %s] ", line, section, name ? name : "-");
	return 0;
}

static int set_seen_in_section(void *options, const char *key, const char *value, unsigned int line,
			       char error[OPTABLE_ERROR_LEN])
{
	if (strcmp(value, "bad") == 0)
		return optable_refuse(error, "bad value");
	add_seen_text(options, "%u:%.12s=%s ", line, key, value);
	return 0;
}

static void expect_log(int r, const char *text)
{
	char log[2 * OPTABLE_ERROR_LEN] = "";

	assert_int_equal(r, -EINVAL);
	assert_true(pread(log_fd, log, sizeof(log) - 1, 0) > 0);
	assert_string_equal(log, text);
}

/*
 * The sections beside the program's own: with a name, empty, with host names for keys. Another
 * program skips them. To see it fail: let pass_section() in configfile.c ignore the program.
 */
static void test_other_sections(void **state)
{
	char path[] = "/tmp/tproxy-test-XXXXXX", text[1024], host[300];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	table.begin_section = begin_seen;
	table.set_in_section = set_seen_in_section;
	write_file(path, "[upstream a-1]\n[upstream \t b ]\ntype = x ; y\n[upstream]\n[relay]\n"
			 "number=7\n[names]\n*.example.org = via b\n*.example.org: direct\n");
	expect_seen(parse("-f", path), "1[upstream a-1] 2[upstream b ] 3:type=x 4[upstream ] "
				       "7[names -] 8:*.example.or=via b 9:*.example.or=direct ");
	assert_int_equal(v.number, 7);
	assert_false(given.file_has_others);
	memset(host, 'h', 255);
	snprintf(text, sizeof(text), "[names]\n%.255s = %.240s\n", host, host);
	write_file(path, text);
	snprintf(text, sizeof(text), "1[names -] 2:%.12s=%.200s", host, host);
	assert_int_equal(parse("-f", path), 0);
	assert_memory_equal(v.seen, text, strlen(text));
	table.section = "load";
	write_file(path, "[upstream a]\nx = bad\n[names]\ny = bad\n[upstream bad]\n");
	expect_seen(parse("-f", path), "");
	assert_true(given.file_has_others);
	table.section = "relay";
	table.begin_section = NULL;
	table.set_in_section = NULL;
	expect_seen(parse("-f", path), "");
	unlink(path);
}

/* Each wrong line is reported, and the keys of a wrong section are not. */
static void test_other_sections_errors(void **state)
{
	char path[] = "/tmp/tproxy-test-XXXXXX", expected[1024];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	table.begin_section = begin_seen;
	table.set_in_section = set_seen_in_section;
	write_file(path, "[upstream bad]\nx = bad\n[upstream b]\nx = bad\n[relay c]\n[names d]\n"
			 "[Upstream e]\n[upstreamf]\n[upstream g] x\n");
	snprintf(expected, sizeof(expected),
		 "test: %s:1: bad section\n"
		 "test: %s:4: x: bad value\n"
		 "test: %s:5: there is no section '[relay c]'\n"
		 "test: %s:6: there is no section '[names d]'\n"
		 "test: %s:7: there is no section '[Upstream e]'\n"
		 "test: %s:8: there is no section '[upstreamf]'\n"
		 "test: %s:9: there is text after '[section]'\n",
		 path, path, path, path, path, path, path);
	expect_log(parse("-f", path), expected);
	table.begin_section = NULL;
	table.set_in_section = NULL;
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),	       cmocka_unit_test(test_equals_after_short),
		cmocka_unit_test(test_operands),       cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_abbreviations),  cmocka_unit_test(test_errors),
		cmocka_unit_test(test_long_words),     cmocka_unit_test(test_values),
		cmocka_unit_test(test_ranges),	       cmocka_unit_test(test_commands),
		cmocka_unit_test(test_file),	       cmocka_unit_test(test_changed),
		cmocka_unit_test(test_other_sections), cmocka_unit_test(test_other_sections_errors),
	};

	return cmocka_run_group_tests(tests, log_to_file, NULL);
}
