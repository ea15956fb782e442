// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests the command line of tproxy-relay: accepted options and usage errors. */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"
#include "util.h"

#define parse(o, ...) parse_args(o, (char *[]){ "tproxy-relay", ##__VA_ARGS__, NULL })

static int parse_args(struct options *o, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return options_parse(argc, argv, o);
}

static void test_defaults(void **state)
{
	struct options o;

	assert_int_equal(parse(&o), 0);
	assert_string_equal(o.pin_dir, "/sys/fs/bpf/tproxy");
	assert_int_equal(o.listen[TPROXY_INET].in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(o.listen[TPROXY_INET].in.sin_port, 0);
	assert_int_equal(o.listeners, 0);
	assert_false(o.drain_in_background);
	assert_false(o.pass_mark);
	assert_int_equal(o.buffer_size, 65536);
	assert_int_equal(o.pipe_size, 524288);
	assert_int_equal(o.keepalive_ms, 300000);
	assert_int_equal(o.backlog, 4096);
	assert_int_equal(o.busy_poll_us, 100);
	assert_true(o.workers >= 1 && o.workers <= OPTIONS_WORKERS_MAX);
	assert_false(o.listen_given[TPROXY_INET] || o.listen_given[TPROXY_INET6]);
	assert_true(IN6_IS_ADDR_LOOPBACK(&o.listen[TPROXY_INET6].in6.sin6_addr));
	assert_int_equal(o.error_memory_ms, 1000);
	assert_int_equal(o.max_connections, 0);
	assert_int_equal(o.connect_timeout_ms, 30000);
	assert_int_equal(o.idle_timeout_ms, 3600000);
	assert_int_equal(o.half_closed_timeout_ms, 300000);
	assert_int_equal(o.drain_timeout_ms, 30000);
	assert_false(o.verbose);
	assert_false(admin_address_is_set(&o.admin));
}

static void test_values(void **state)
{
	struct options o;

	assert_int_equal(parse(&o, "-p", "/x", "-l", "127.0.0.2:99", "-w", "3", "-v",
			       "--connect-timeout", "1s", "--idle-timeout=2m",
			       "--half-closed-timeout=3ms", "--drain-timeout=4h",
			       "--max-connections=5", "--listen=[::2]:98", "--error-memory=0",
			       "--listeners=6", "--buffer-size=8K", "--pipe-size=0",
			       "--keepalive-time=2m", "--backlog=9", "--busy-poll=0",
			       "--max-per-cgroup=7", "--drain-in-background", "--pass-mark"),
			 0);
	assert_int_equal(o.listeners, 6);
	assert_int_equal(o.max_per_cgroup, 7);
	assert_int_equal(o.buffer_size, 8192);
	assert_int_equal(o.pipe_size, 0);
	assert_int_equal(o.keepalive_ms, 120000);
	assert_int_equal(o.backlog, 9);
	assert_int_equal(o.busy_poll_us, 0);
	assert_true(o.drain_in_background);
	assert_true(o.pass_mark);
	assert_string_equal(o.pin_dir, "/x");
	assert_int_equal(o.listen[TPROXY_INET].in.sin_addr.s_addr, htonl(0x7f000002));
	assert_int_equal(o.listen[TPROXY_INET].in.sin_port, htons(99));
	assert_int_equal(o.listen[TPROXY_INET6].in6.sin6_port, htons(98));
	assert_true(o.listen_given[TPROXY_INET] && o.listen_given[TPROXY_INET6]);
	assert_int_equal(o.error_memory_ms, 0);
	assert_int_equal(o.workers, 3);
	assert_int_equal(o.connect_timeout_ms, 1000);
	assert_int_equal(o.idle_timeout_ms, 120000);
	assert_int_equal(o.half_closed_timeout_ms, 3);
	assert_int_equal(o.drain_timeout_ms, 14400000);
	assert_int_equal(o.max_connections, 5);
	assert_true(o.verbose);
}

/*
 * 0 turns a timeout or a limit off, in all of these options. To see it fail: let one of them refuse
 * 0.
 */
static void test_never(void **state)
{
	struct options o;

	assert_int_equal(parse(&o, "--connect-timeout=0", "--idle-timeout", "0s",
			       "--half-closed-timeout=0", "--keepalive-time=0ms",
			       "--drain-timeout=0", "--error-memory=0h", "--max-connections=0",
			       "--max-per-cgroup=0"),
			 0);
	assert_int_equal(o.connect_timeout_ms, 0);
	assert_int_equal(o.idle_timeout_ms, 0);
	assert_int_equal(o.half_closed_timeout_ms, 0);
	assert_int_equal(o.keepalive_ms, 0);
	assert_int_equal(o.drain_timeout_ms, 0);
	assert_int_equal(o.error_memory_ms, 0);
	assert_int_equal(o.max_connections, 0);
	assert_int_equal(o.max_per_cgroup, 0);
	assert_int_equal(parse(&o, "--pass-mark"), 0);
	assert_int_equal(o.error_memory_ms, 0);
	assert_int_equal(parse(&o, "--pass-mark=yes"), -EINVAL);
	assert_int_equal(parse(&o, "--workers=0"), -EINVAL);
	assert_int_equal(parse(&o, "--backlog=0"), -EINVAL);
	assert_int_equal(parse(&o, "--buffer-size=0"), -EINVAL);
}

/* The number of listeners of each worker, and combinations that are refused. */
static void test_listeners(void **state)
{
	struct options o;

	assert_int_equal(parse(&o, "--workers=1"), 0);
	assert_int_equal(options_listeners(&o, TPROXY_INET), 4);
	assert_int_equal(parse(&o, "--workers=3"), 0);
	assert_int_equal(options_listeners(&o, TPROXY_INET6), 2);
	assert_int_equal(parse(&o, "--workers=64"), 0);
	assert_int_equal(options_listeners(&o, TPROXY_INET), 1);
	assert_int_equal(parse(&o, "--workers=1", "--listen=127.0.0.1:65535"), 0);
	assert_int_equal(options_listeners(&o, TPROXY_INET), 1);
	assert_int_equal(options_listeners(&o, TPROXY_INET6), 4);
	assert_int_equal(parse(&o, "--workers=2", "--listeners=32"), 0);
	assert_int_equal(options_listeners(&o, TPROXY_INET), 32);
	assert_int_equal(parse(&o, "--workers=2", "--listeners=33"), -EINVAL);
	assert_int_equal(parse(&o, "--workers=2", "--listen=127.0.0.1:65535"), -EINVAL);
	assert_int_equal(parse(&o, "--workers=2", "--listen=[::1]:65534"), 0);
}

/*
 * A reload may give the number of listeners that was computed. To see it fail: let
 * options_changed() compare the options alone.
 */
static void test_changed(void **state)
{
	struct options before, after;

	assert_int_equal(parse(&before, "--workers=1"), 0);
	assert_int_equal(parse(&after, "--workers=1", "--listeners=4"), 0);
	assert_null(options_changed(&before, &after));
	assert_null(options_changed(&after, &before));
	assert_int_equal(parse(&after, "--workers=1", "--listeners=3"), 0);
	assert_string_equal(options_changed(&before, &after), "listeners");
	assert_int_equal(parse(&after, "--workers=2", "--listeners=4"), 0);
	assert_string_equal(options_changed(&before, &after), "workers");
	assert_int_equal(parse(&before, "--workers=1", "--listen=127.0.0.1:9"), 0);
	assert_int_equal(parse(&after, "--workers=1", "--listen=127.0.0.1:9", "--listeners=4"), 0);
	assert_string_equal(options_changed(&before, &after), "listeners");
}

static void with_file(const char *lines, char path[32])
{
	FILE *f;
	int fd;

	strcpy(path, "/tmp/tproxy-test-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	assert_non_null(f);
	fputs(lines, f);
	fclose(f);
}

static void test_file(void **state)
{
	struct options o;
	char path[32];

	with_file("[load]\ncgroup = /a\n"
		  "[relay]\n"
		  "pin-dir = /x\n"
		  "listen = 127.0.0.2:99\n"
		  "listen = [::1]:98\n"
		  "workers = 3 # three\n"
		  "max-connections = 5\n"
		  "idle-timeout = 2m\n"
		  "error-memory = 0\n"
		  "listeners = 2\n"
		  "drain-in-background = yes\n"
		  "verbose = on\n",
		  path);
	assert_int_equal(parse(&o, "-f", path, "-l", "127.0.0.3:97", "-w", "4"), 0);
	unlink(path);
	assert_string_equal(o.pin_dir, "/x");
	assert_int_equal(o.listen[TPROXY_INET].in.sin_addr.s_addr, htonl(0x7f000003));
	assert_int_equal(o.listen[TPROXY_INET6].in6.sin6_port, htons(98));
	assert_true(o.listen_given[TPROXY_INET] && o.listen_given[TPROXY_INET6]);
	assert_int_equal(o.workers, 4);
	assert_int_equal(o.listeners, 2);
	assert_true(o.drain_in_background);
	assert_int_equal(o.max_connections, 5);
	assert_int_equal(o.idle_timeout_ms, 120000);
	assert_int_equal(o.error_memory_ms, 0);
	assert_true(o.verbose);
}

static void test_file_errors(void **state)
{
	static const char *const bad[] = {
		"[relay]\nworkers = 0\n",
		"[relay]\nworker = 1\n",
		"[relay]\nverbose = 2\n",
		"[relay]\nlisten = 127.0.0.1:1\nlisten = 127.0.0.1:2\n",
		"[relay]\nidle-timeout\n",
		"[relay]\nlisteners = 65\n",
		"[relay]\ndrain-in-background = ja\n",
		"[relay]\nbuffer-size = 1K\n",
		"[relay]\npipe-size = 2M\n",
		"[relay]\nkeepalive-time = 500ms\n",
		"[relay]\nkeepalive-time = 10h\n",
		"[relay]\nbacklog = 0\n",
		"[relay]\nbusy-poll = 1001\n",
		"[relay]\nworkers = 1\nworkers = 1\n",
		"[other]\n",
		"[]\nverbose = yes\n",
		"[relay]\n= yes\n",
		"[relay]\nverbose = yes\n[load]\nall = yes\n[relay]\nverbose = no\n",
	};
	struct options o;
	char path[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		with_file(bad[i], path);
		assert_int_equal(parse(&o, "-f", path), -EINVAL);
		unlink(path);
	}
	assert_int_equal(parse(&o, "-f", "/nonexistent"), -EINVAL);
}

/*
 * A path of a cgroup may be longer than libinih's buffer for a line. To see it fail: let
 * read_line() pass on what fits into the buffer.
 */
static void test_long_lines(void **state)
{
	char name[PATH_MAX - 4], lines[5 * PATH_MAX], path[32], expected[PATH_MAX];
	struct options o;
	size_t len;

	for (len = 150; len < sizeof(name); len += len < 250 ? 1 : 379) {
		memset(name, 'a', len);
		name[len] = '\0';
		snprintf(expected, sizeof(expected), "/%s", name);
		snprintf(lines, sizeof(lines),
			 "# %s %s\n[relay] ; %s\n  pin-dir =  /%s  # end\nworkers = 3\n", name,
			 name, len < 1000 ? name : "", name);
		with_file(lines, path);
		assert_int_equal(parse(&o, "-f", path), 0);
		unlink(path);
		assert_string_equal(o.pin_dir, expected);
		assert_int_equal(o.workers, 3);
	}
}

static void test_errors(void **state)
{
	struct options o;

	assert_int_equal(parse(&o, "-w", "0"), -EINVAL);
	assert_int_equal(parse(&o, "-w", "65"), -EINVAL);
	assert_int_equal(parse(&o, "-l", "::1"), -EINVAL);
	assert_int_equal(parse(&o, "-l", "127.0.0.1"), -EINVAL);
	assert_int_equal(parse(&o, "-l", "127.0.0.1:1", "-l", "127.0.0.1:2"), -EINVAL);
	assert_int_equal(parse(&o, "--error-memory", "never"), -EINVAL);
	assert_int_equal(parse(&o, "-p", ""), -EINVAL);
	assert_int_equal(parse(&o, "-p"), -EINVAL);
	assert_int_equal(parse(&o, "-f", ""), -EINVAL);
	assert_int_equal(parse(&o, "--idle-timeout", "never"), -EINVAL);
	assert_int_equal(parse(&o, "--max-connections", "-1"), -EINVAL);
	assert_int_equal(parse(&o, "--nonsense"), -EINVAL);
	assert_int_equal(parse(&o, "-x"), -EINVAL);
	assert_int_equal(parse(&o, "extra"), -EINVAL);
}

/*
 * An address that no client can connect to is refused. To see it fail: let why_no_listener() return
 * NULL.
 */
static void test_listen_addresses(void **state)
{
	static const char *const bad[] = {
		"224.0.0.1:0", "239.255.255.255:9",    "255.255.255.255:0",
		"[ff02::1]:0", "[::ffff:127.0.0.1]:0", "[::ffff:0.0.0.0]:0",
	};
	static const char *const good[] = {
		"0.0.0.0:0", "223.255.255.255:0", "240.0.0.1:0", "[::]:0", "[fe80::1]:0",
	};
	struct options o;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(&o, "-l", (char *)bad[i]), -EINVAL);
	for (i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(parse(&o, "-l", (char *)good[i]), 0);
}

/* To see it fail: let admin_address_parse() take any address. */
static void test_admin(void **state)
{
	static const char *const bad[] = {
		"",
		"admin.sock",
		"127.0.0.1",
		"127.0.0.1:0",
		"0.0.0.0:1",
		"192.0.2.1:1",
		"localhost:1",
		"[::]:1",
		"[::1]:0",
		"[fe80::1]:1",
		"128.0.0.1:1",
		"255.0.0.1:1",
		"[::ffff:127.0.0.1]:1",
	};
	static const char *const good[] = { "127.0.0.1:1", "127.255.255.255:65535", "[::1]:1" };
	char path[200] = "/";
	struct options o;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(&o, "--admin", (char *)bad[i]), -EINVAL);
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse(&o, "--admin", (char *)good[i]), 0);
		assert_true(admin_address_is_set(&o.admin));
		assert_string_equal(o.admin.path, "");
	}
	/* The last one is the one that counts; with ".new" it must fit into sun_path. */
	memset(path + 1, 'x', 103);
	assert_int_equal(parse(&o, "--admin", "[::1]:1", "--admin", path), -EINVAL);
	path[103] = '\0';
	assert_int_equal(parse(&o, "--admin", "[::1]:1", "--admin", path), 0);
	assert_string_equal(o.admin.path, path);
	assert_int_equal(o.admin.tcp.sa.sa_family, AF_UNSPEC);
}

/* The options about upstreams, which may be in the file or not. */
static void test_upstreams(void **state)
{
	struct options o;
	char path[32];

	assert_int_equal(parse(&o), 0);
	assert_string_equal(o.upstreams.default_name, "direct");
	assert_false(o.upstreams.sniff);
	assert_int_equal(o.upstreams.n_sniff_ports, 4);
	assert_int_equal(o.upstreams.sniff_ports[3], 8443);
	assert_int_equal(o.upstreams.n, 0);
	assert_int_equal(parse(&o, "--sniff", "--sniff-ports=1, 65535"), 0);
	assert_true(o.upstreams.sniff);
	assert_int_equal(o.upstreams.n_sniff_ports, 2);
	assert_int_equal(o.upstreams.sniff_ports[1], 65535);
	assert_int_equal(parse(&o, "--default-upstream=corp"), -EINVAL);
	assert_int_equal(parse(&o, "--default-upstream=a b"), -EINVAL);
	assert_int_equal(parse(&o, "--sniff-ports=80,80"), -EINVAL);
	assert_int_equal(parse(&o, "--sniff-ports=0"), -EINVAL);
	assert_int_equal(parse(&o, "--sniff-ports="), -EINVAL);
	assert_int_equal(parse(&o, "--sniff-ports=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"),
			 -EINVAL);
	with_file("[upstream corp]\ntype = http\naddress = x:1\n[relay]\n"
		  "default-upstream = corp\n",
		  path);
	assert_int_equal(parse(&o, "-f", path), 0);
	assert_string_equal(o.upstreams.default_name, "corp");
	assert_string_equal(o.upstreams.list[0].host, "x");
	assert_false(o.upstreams.sniff);
	options_finish(&o);
	assert_int_equal(parse(&o, "-f", path, "--default-upstream=direct"), 0);
	assert_string_equal(o.upstreams.default_name, "direct");
	options_finish(&o);
	assert_int_equal(parse(&o, "-f", path, "--default-upstream=x"), -EINVAL);
	unlink(path);
}

/* By default names are looked for if something needs them. To see it fail: leave out the default in
 * check_upstreams(). */
static void test_sniff(void **state)
{
	static const char *const needs[] = {
		"[relay]\n[upstream a]\ntype = http\naddress = x:1\nsend-name = yes\n",
		"[relay]\n[names]\n* = direct\n",
		"[relay]\nsniff = yes\n[names]\n* = direct\n",
	};
	struct options o;
	char path[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(needs); i++) {
		with_file(needs[i], path);
		assert_int_equal(parse(&o, "-f", path), 0);
		assert_true(o.upstreams.sniff);
		options_finish(&o);
		unlink(path);
	}
	with_file("[relay]\nsniff = no\n[names]\n* = direct\n", path);
	assert_int_equal(parse(&o, "-f", path), -EINVAL);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),    cmocka_unit_test(test_values),
		cmocka_unit_test(test_listeners),   cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_errors), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_never),	    cmocka_unit_test(test_listen_addresses),
		cmocka_unit_test(test_long_lines),  cmocka_unit_test(test_changed),
		cmocka_unit_test(test_admin),	    cmocka_unit_test(test_upstreams),
		cmocka_unit_test(test_sniff),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
