// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests rules_compile_file(): what a rule file names on this host, list files, files that cannot be
 * read, and what is reported for each.
 */
#include "rules/rules.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "unit.h"
#include "util.h"

static char folder[] = "/tmp/tproxy-rules-XXXXXX";
static char path[64];
static struct rules_compiled compiled;

static void write_file(const char *name, const char *text, size_t len)
{
	char file[64];
	FILE *out;

	snprintf(file, sizeof(file), "%s/%s", folder, name);
	out = fopen(file, "w");
	assert_non_null(out);
	assert_int_equal(fwrite(text, 1, len, out), len);
	assert_int_equal(fclose(out), 0);
}

static void make_pipe(const char *name)
{
	char file[64];

	snprintf(file, sizeof(file), "%s/%s", folder, name);
	assert_int_equal(mkfifo(file, 0600), 0);
}

static int compile(bool no_resolve, const char *text)
{
	const struct rules_options options = { .no_resolve = no_resolve };

	write_file("f.rules", text, strlen(text));
	return rules_compile_file(path, &options, &compiled);
}

static void must_compile(const char *text)
{
	const int r = compile(false, text);

	if (r < 0)
		rules_messages_print(&compiled.messages, stderr);
	assert_int_equal(r, 0);
}

static int finish(void **state)
{
	rules_compiled_finish(&compiled);
	return 0;
}

static void must_fail(const char *text, unsigned int line, unsigned int column, const char *message)
{
	assert_int_equal(compile(false, text), -EINVAL);
	assert_int_equal(compiled.messages.n_errors, 1);
	assert_int_equal(compiled.messages.errors[0].at.line, line);
	assert_int_equal(compiled.messages.errors[0].at.column, column);
	if (!strstr(compiled.messages.errors[0].text, message))
		fail_msg("%s", compiled.messages.errors[0].text);
	finish(NULL);
}

static void test_ids(void **state)
{
	must_compile("direct uid root, 5-6 gid root unless uid root");
	assert_int_equal(compiled.rules.n_rows, 3);
	assert_int_equal(compiled.rules.rows[0].uid_last, 0);
	assert_int_equal(compiled.rules.rows[1].conditions, TPROXY_RULE_UID | TPROXY_RULE_GID);
	assert_int_equal(compiled.rules.rows[1].uid_last, 0);
	assert_int_equal(compiled.rules.rows[2].uid_first, 5);
	finish(NULL);
	must_fail("direct\ndirect uid no-such-user", 2, 12, "user \"no-such-user\" does not exist");
	must_fail("direct gid no-such-group", 1, 12, "group \"no-such-group\" does not exist");
}

/* Host names: those of /etc/hosts, and one that has no address anywhere (RFC 6761). */
static void test_hosts(void **state)
{
	must_compile("direct to localhost");
	assert_true(compiled.n_prefixes >= 1);
	assert_true(compiled.names_loopback);
	finish(NULL);
	must_fail("direct to 10.0.0.1, nothing.invalid", 1, 21,
		  "host \"nothing.invalid\" does not resolve: ");
}

static void test_cgroups(void **state)
{
	_cleanup_free_ char *root = NULL;
	char text[PATH_MAX + 64];
	struct cgroup cgroup = CGROUP_NULL;

	if (cgroup_root(&root) < 0 || cgroup_open(root, &cgroup) < 0) {
		const char *must_run = getenv("TPROXY_MUST_RUN");

		print_message("SKIP: no cgroup2 is mounted\n");
		assert_false(must_run && strcmp(must_run, "1") == 0);
		skip();
	}
	snprintf(text, sizeof(text), "direct cgroup / unless cgroup %s\n", root);
	must_compile(text);
	/* Both are the root. */
	assert_int_equal(compiled.rules.n_cgroup_tests, 1);
	assert_true(compiled.rules.cgroup_tests[0].cgroup_id == cgroup.id);
	assert_int_equal(compiled.rules.cgroup_tests[0].level, 0);
	cgroup_close(&cgroup);
	finish(NULL);
	must_fail("direct cgroup /no-such.slice/a.service", 1, 15,
		  "cgroup \"/no-such.slice/a.service\" does not exist; use name:a.service for a "
		  "unit that comes and goes");
	must_fail("direct cgroup no-such.slice", 1, 15, "use name:no-such.slice");
}

static void test_list_files(void **state)
{
	static const char list[] = "192.0.2.1\n10.0.0.1/8\n127.0.0.0/8\n";

	write_file("a.netset", list, sizeof(list) - 1);
	write_file("empty.netset", "", 0);
	must_compile("set a file a.netset\nset b file empty.netset\ndirect to @a, @b");
	assert_int_equal(compiled.n_prefixes, 2);
	assert_false(compiled.names_loopback);
	assert_int_equal(compiled.messages.n_notes, 3);
	assert_non_null(strstr(compiled.messages.notes[0].text, "1 of the list's CIDRs have bits"));
	assert_non_null(
		strstr(compiled.messages.notes[1].text, "1 of the list's entries are loop"));
	assert_string_equal(compiled.messages.notes[2].text, "the list is empty");
	assert_int_equal(compiled.messages.notes[2].at.line, 2);
	finish(NULL);
	must_fail("set a file none.netset\ndirect to @a", 1, 12, "none.netset\": No such file");
	must_fail("set a file .\ndirect to @a", 1, 12, "Is a directory");
	make_pipe("pipe.netset");
	must_fail("set a file pipe.netset\ndirect to @a", 1, 12, "pipe.netset\": is a pipe");

	/* An error of the list has its place in the list. */
	write_file("a.netset", "192.0.2.1\n  x\n", 14);
	assert_int_equal(compile(false, "set a file a.netset\ndirect to @a"), -EINVAL);
	assert_non_null(strstr(compiled.messages.errors[0].file, "/a.netset"));
	assert_int_equal(compiled.messages.errors[0].at.line, 2);
	assert_int_equal(compiled.messages.errors[0].at.column, 3);
}

/* All that is missing is reported at once, and nothing is compiled. */
static void test_all_errors(void **state)
{
	assert_int_equal(compile(false, "direct uid no-such-user\ndirect gid no-such-group unless "
					"to nothing.invalid\n"),
			 -EINVAL);
	assert_int_equal(compiled.messages.n_errors, 3);
	assert_int_equal(compiled.messages.errors[2].at.line, 2);
	assert_int_equal(compiled.n_rules, 0);
}

static void test_no_resolve(void **state)
{
	assert_int_equal(compile(true, "direct uid no-such-user to nothing.invalid\n"
				       "refuse gid no-such-group cgroup /no-such, /no-such-either"),
			 0);
	assert_int_equal(compiled.rules.n_rows, 3);
	assert_int_equal(compiled.rules.n_cgroup_tests, 2);
	assert_int_equal(compiled.messages.n_notes, 1);
	assert_non_null(strstr(compiled.messages.notes[0].text, "were not looked up: 5"));
	/* No process has the id that stands for the user. */
	assert_int_equal(compiled.rules.rows[0].uid_first, UINT32_MAX);
}

static void test_unreadable(void **state)
{
	const struct rules_options options = {};
	const struct {
		const char *file, *message;
		int r;
	} cases[] = {
		{ "/tmp/tproxy-rules-XXXXXX/none", "No such file or directory", -ENOENT },
		{ folder, "Is a directory", -EISDIR },
		{ "/dev/zero", "larger than 1048576 bytes", -EFBIG },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(rules_compile_file(cases[i].file, &options, &compiled),
				 cases[i].r);
		assert_string_equal(compiled.messages.errors[0].text, cases[i].message);
		assert_string_equal(compiled.messages.errors[0].file, cases[i].file);
		assert_null(compiled.messages.errors[0].source);
		finish(NULL);
	}
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/f.rules", folder);
	return 0;
}

static int remove_folder(void **state)
{
	static const char *const names[] = { "f.rules", "a.netset", "empty.netset", "pipe.netset" };
	char file[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(file, sizeof(file), "%s/%s", folder, names[i]);
		unlink(file);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_ids, finish),
		cmocka_unit_test_teardown(test_hosts, finish),
		cmocka_unit_test_teardown(test_cgroups, finish),
		cmocka_unit_test_teardown(test_list_files, finish),
		cmocka_unit_test_teardown(test_all_errors, finish),
		cmocka_unit_test_teardown(test_no_resolve, finish),
		cmocka_unit_test_teardown(test_unreadable, finish),
	};

	/* Where no name server answers, for the one name that is asked for. */
	setenv("RES_OPTIONS", "timeout:1 attempts:1", 1);
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
