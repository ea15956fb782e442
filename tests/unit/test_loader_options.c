// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests the command line of tproxy-load: accepted options and usage errors. */
#include "load/options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"
#include "util.h"

#define parse(o, ...) parse_args(o, (char *[]){ "tproxy-load", ##__VA_ARGS__, NULL })

static int parse_args(struct load_options *o, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return load_options_parse(argc, argv, o);
}

static void test_load(void **state)
{
	struct load_options o;

	assert_int_equal(parse(&o, "--all"), 0);
	assert_int_equal(o.mode, OPTIONS_LOAD);
	assert_true(o.all);
	assert_int_equal(o.n_cgroups, 0);
	assert_string_equal(o.relay_cgroup, "");
	assert_string_equal(o.pin_dir, "/sys/fs/bpf/tproxy");
	assert_false(o.fail_closed);
	assert_false(o.include_loopback);
	load_options_finish(&o);

	assert_int_equal(parse(&o, "-c", "/a", "--cgroup=/b", "-r", "/c", "-p", "/d", "-g", "4711",
			       "--fail-closed", "--include-loopback", "-v"),
			 0);
	assert_false(o.all);
	assert_int_equal(o.n_cgroups, 2);
	assert_string_equal(o.cgroups[0], "/a");
	assert_string_equal(o.cgroups[1], "/b");
	assert_string_equal(o.relay_cgroup, "/c");
	assert_string_equal(o.pin_dir, "/d");
	assert_int_equal(o.relay_gid, 4711);
	assert_true(o.fail_closed && o.include_loopback && o.verbose);
	load_options_finish(&o);

	assert_int_equal(parse(&o, "-c/a", "-g", "root"), 0);
	assert_int_equal(o.relay_gid, 0);
	load_options_finish(&o);
}

/* Only --all selects the whole host. To see it fail: let load_options_parse() succeed without a
 * scope. */
static void test_scope(void **state)
{
	struct load_options o;

	assert_int_equal(parse(&o), -EINVAL);
	assert_int_equal(parse(&o, "--check"), -EINVAL);
	assert_int_equal(parse(&o, "--fail-closed", "-r", "/r"), -EINVAL);
	assert_int_equal(parse(&o, "--all", "-c", "/a"), -EINVAL);
	assert_int_equal(parse(&o, "-c", "/a", "--all"), -EINVAL);
	assert_int_equal(parse(&o, "--unload", "--all"), -EINVAL);
	assert_int_equal(parse(&o, "--check", "--all"), 0);
	assert_true(o.all);
	load_options_finish(&o);
}

static void test_modes(void **state)
{
	struct load_options o;

	assert_int_equal(parse(&o, "--unload", "-p", "/d"), 0);
	assert_int_equal(o.mode, OPTIONS_UNLOAD);
	load_options_finish(&o);
	assert_int_equal(parse(&o, "--status", "--json"), 0);
	assert_int_equal(o.mode, OPTIONS_STATUS);
	assert_true(o.json);
	load_options_finish(&o);
}

/*
 * Writes a file of these lines and returns its path, which the caller does not free. The next call
 * overwrites the file.
 */
static const char *file(const char *lines)
{
	static char path[] = "/tmp/tproxy-test-XXXXXX";
	static bool made;
	FILE *f;

	if (!made) {
		int fd = mkstemp(path);

		assert_true(fd >= 0);
		close(fd);
		made = true;
	}
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(lines, f);
	fclose(f);
	return path;
}

static void test_file(void **state)
{
	const char *path = file("; tproxy\n"
				"[relay]\n"
				"whatever = is the relay's\n"
				"[load]\n"
				"cgroup = /a b\n"
				"cgroup = /c#d # and why\n"
				"relay-cgroup: /r\n"
				"relay-group = root\n"
				"pin-dir=/p\n"
				"fail-closed = yes\n"
				"include-loopback = no\n");
	struct load_options o;

	assert_int_equal(parse(&o, "-f", (char *)path), 0);
	assert_int_equal(o.n_cgroups, 2);
	assert_string_equal(o.cgroups[0], "/a b");
	assert_string_equal(o.cgroups[1], "/c#d");
	assert_int_equal(o.cgroup_lines[1], 6);
	assert_int_equal(o.relay_cgroup_line, 7);
	assert_true(o.config_has_others);
	assert_string_equal(o.relay_cgroup, "/r");
	assert_string_equal(o.pin_dir, "/p");
	assert_int_equal(o.relay_gid, 0);
	assert_true(o.fail_closed);
	assert_false(o.include_loopback);
	load_options_finish(&o);

	/* The command line takes precedence, wherever --config stands in it. */
	assert_int_equal(parse(&o, "-c", "/x", "-p", "/y", "--config", (char *)path), 0);
	assert_int_equal(o.n_cgroups, 1);
	assert_string_equal(o.cgroups[0], "/x");
	assert_string_equal(o.pin_dir, "/y");
	assert_string_equal(o.relay_cgroup, "/r");
	load_options_finish(&o);

	assert_int_equal(parse(&o, "--all", "-f", (char *)path), 0);
	assert_true(o.all);
	assert_int_equal(o.n_cgroups, 0);
	load_options_finish(&o);
	path = file("[load]\nall = yes\n");
	assert_int_equal(parse(&o, "-f", (char *)path), 0);
	assert_true(o.all);
	load_options_finish(&o);
	assert_int_equal(parse(&o, "-f", (char *)path, "-c", "/a"), 0);
	assert_false(o.all);
	assert_int_equal(o.n_cgroups, 1);
	load_options_finish(&o);
	unlink(path);
}

static void test_file_errors(void **state)
{
	static const char *const bad[] = {
		"[load]\ncgroup\n",
		"[load]\ncgroup =\n",
		"cgroup = /a\n",
		"[loader]\ncgroup = /a\n",
		"[load]\ncgroups = /a\n",
		"[load]\nfail-closed = maybe\n",
		"[load]\nfail-closed = no\nrelay-group = no such group\n",
		"[load\ncgroup = /a\n",
		"[load]\n",
		"[load]\nall = no\n",
		"[load]\nall = yes\ncgroup = /a\n",
	};
	struct load_options o;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(&o, "-f", (char *)file(bad[i])), -EINVAL);
	unlink(file(""));
	assert_int_equal(parse(&o, "-f", "/nonexistent"), -EINVAL);
	assert_int_equal(parse(&o, "--check", "--unload"), -EINVAL);
	assert_int_equal(parse(&o, "-c/a", "-f/a", "-f/a"), -EINVAL);
}

/* --again takes everything but the cgroups from the last load. */
static void test_again(void **state)
{
	static const char *const not_with[] = { "--all",    "--fail-closed", "--include-loopback",
						"-r/r",	    "-g0",	     "--check",
						"--unload", "--status",	     "-f/dev/null" };
	struct load_options o;
	size_t i;

	assert_int_equal(parse(&o, "--again"), 0);
	assert_true(o.again);
	assert_int_equal(o.n_cgroups, 0);
	load_options_finish(&o);
	assert_int_equal(parse(&o, "-c/a", "--again", "--force", "-p/d", "-v", "-c/b"), 0);
	assert_true(o.again && o.force);
	assert_int_equal(o.n_cgroups, 2);
	load_options_finish(&o);
	assert_int_equal(parse(&o, "-c/a"), 0);
	assert_false(o.again || o.force);
	load_options_finish(&o);
	for (i = 0; i < ARRAY_SIZE(not_with); i++)
		assert_int_equal(parse(&o, "--again", (char *)(uintptr_t)not_with[i]), -EINVAL);
	assert_int_equal(parse(&o, "--unload", "--force"), -EINVAL);
}

static void test_errors(void **state)
{
	struct load_options o;

	assert_int_equal(parse(&o, "--all", "--rules", "/a", "--rules=/b"), -EINVAL);
	assert_int_equal(parse(&o, "--json", "-c/a"), -EINVAL);
	assert_int_equal(parse(&o, "--unload", "--json"), -EINVAL);
	assert_int_equal(parse(&o, "--unload", "--status"), -EINVAL);
	assert_int_equal(parse(&o, "--unload", "--fail-closed"), -EINVAL);
	assert_int_equal(parse(&o, "--status", "-c", "/a"), -EINVAL);
	assert_int_equal(parse(&o, "-c", ""), -EINVAL);
	assert_int_equal(parse(&o, "-c/a", "-r", ""), -EINVAL);
	assert_int_equal(parse(&o, "-c/a", "-p", ""), -EINVAL);
	assert_int_equal(parse(&o, "-c/a", "-g", "no such group"), -EINVAL);
	assert_int_equal(parse(&o, "-c/a", "-g", "4294967295"),
			 -EINVAL); /* (gid_t)-1 means "unchanged" to chown(2) */
	assert_int_equal(parse(&o, "-c"), -EINVAL);
	assert_int_equal(parse(&o, "-c/a", "--nonsense"), -EINVAL);
	assert_int_equal(parse(&o, "-c/a", "extra"), -EINVAL);
}

/* Names of interfaces: each once; the command line replaces the file; as the kernel allows. */
static void test_xdp(void **state)
{
	const char *path = file("[load]\nall = yes\nxdp = eth0\nxdp = eth1\nxdp-mode = native\n");
	struct load_options o;

	assert_int_equal(parse(&o, "-f", (char *)path), 0);
	assert_int_equal(o.n_xdp, 2);
	assert_string_equal(o.xdp[1], "eth1");
	assert_int_equal(o.xdp_mode, TPROXY_XDP_NATIVE);
	load_options_finish(&o);

	assert_int_equal(parse(&o, "-f", (char *)path, "--xdp", "a", "--xdp=b", "--xdp", "a"), 0);
	assert_int_equal(o.n_xdp, 2);
	assert_string_equal(o.xdp[0], "a");
	assert_string_equal(o.xdp[1], "b");
	load_options_finish(&o);

	assert_int_equal(parse(&o, "--all", "--xdp", "fifteen-letters"), 0);
	assert_int_equal(o.xdp_mode, TPROXY_XDP_AUTO);
	load_options_finish(&o);
	assert_int_equal(parse(&o, "--all", "--xdp", "sixteen-letters."), -EINVAL);
	assert_int_equal(parse(&o, "--all", "--xdp", ""), -EINVAL);
	assert_int_equal(parse(&o, "--all", "--xdp", "a b"), -EINVAL);
	assert_int_equal(parse(&o, "--all", "--xdp", "a/b"), -EINVAL);
	assert_int_equal(parse(&o, "--all", "--xdp", ".."), -EINVAL);
	assert_int_equal(parse(&o, "--all", "--xdp", "a", "--xdp-mode", "fast"), -EINVAL);
	assert_int_equal(parse(&o, "--xdp", "a"), -EINVAL);
	assert_int_equal(parse(&o, "--again", "--xdp", "a"), -EINVAL);
	assert_int_equal(parse(&o, "--follow", "--xdp", "a"), -EINVAL);
	assert_int_equal(parse(&o, "--follow", "--unload"), -EINVAL);
	assert_int_equal(parse(&o, "--follow", "-p", "/d"), 0);
	assert_int_equal(o.mode, OPTIONS_FOLLOW);
	load_options_finish(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),  cmocka_unit_test(test_modes),
		cmocka_unit_test(test_file),  cmocka_unit_test(test_file_errors),
		cmocka_unit_test(test_again), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_scope), cmocka_unit_test(test_xdp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
