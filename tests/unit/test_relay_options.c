// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The command line of tproxy-relay: what is taken, what is a usage error. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
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
	optind = 0; /* glibc: start anew */
	return options_parse(argc, argv, o);
}

static void test_defaults(void **state)
{
	struct options o;

	assert_int_equal(parse(&o), 0);
	assert_string_equal(o.pin_dir, "/sys/fs/bpf/tproxy");
	assert_int_equal(o.listen[TPROXY_INET].in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_equal(o.listen[TPROXY_INET].in.sin_port, 0);
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
}

static void test_values(void **state)
{
	struct options o;

	assert_int_equal(parse(&o, "-p", "/x", "-l", "127.0.0.2:99", "-w", "3", "-v",
			       "--connect-timeout", "1s", "--idle-timeout=2m",
			       "--half-closed-timeout=3ms", "--drain-timeout=4h",
			       "--max-connections=5", "--listen=[::2]:98", "--error-memory=0"),
			 0);
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
	assert_int_equal(parse(&o, "--idle-timeout", "0"), -EINVAL);
	assert_int_equal(parse(&o, "--idle-timeout", "never"), -EINVAL);
	assert_int_equal(parse(&o, "--max-connections", "0"), -EINVAL);
	assert_int_equal(parse(&o, "--nonsense"), -EINVAL);
	assert_int_equal(parse(&o, "-x"), -EINVAL);
	assert_int_equal(parse(&o, "extra"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
