// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests common/parse.c: accepted input, the error of refused input, and that a refusal leaves the
 * result unchanged. Tests the names and ids of common/upstream_id.c.
 */
#include "parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "unit.h"
#include "upstream_id.h"
#include "util.h"

static void test_size(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint32_t bytes;
	} cases[] = {
		{ "4096", 0, 4096 },
		{ "4K", 0, 4096 },
		{ "1M", 0, 1 << 20 },
		{ "1024K", 0, 1 << 20 },
		{ "4095", -ERANGE, 9 },
		{ "3K", -ERANGE, 9 },
		{ "1025K", -ERANGE, 9 },
		{ "2M", -ERANGE, 9 },
		{ "4294967295M", -ERANGE, 9 },
		{ "4294967296", -ERANGE, 9 },
		{ "", -EINVAL, 9 },
		{ "K", -EINVAL, 9 },
		{ "4k", 0, 4096 },
		{ "4 K", -EINVAL, 9 },
		{ "4KB", 0, 4096 },
		{ "4KiB", 0, 4096 },
		{ "64kb", 0, 65536 },
		{ "1m", 0, 1 << 20 },
		{ "1MiB", 0, 1 << 20 },
		{ "4096B", 0, 4096 },
		{ "1G", -ERANGE, 9 },
		{ "4iB", -EINVAL, 9 },
		{ "4Ki", -EINVAL, 9 },
		{ "4KK", -EINVAL, 9 },
		{ "4T", -EINVAL, 9 },
		{ "4KiBs", -EINVAL, 9 },
		{ "-4K", -EINVAL, 9 },
		{ "4.5K", -EINVAL, 9 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t bytes = 9;

		assert_int_equal(parse_size(cases[i].s, 4096, 1 << 20, &bytes), cases[i].r);
		assert_int_equal(bytes, cases[i].bytes);
	}
}

static void test_u32(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint32_t value;
	} cases[] = {
		{ "1", 0, 1 },
		{ "65535", 0, 65535 },
		{ "007", 0, 7 },
		{ "0", -ERANGE, 99 },
		{ "65536", -ERANGE, 99 },
		{ "", -EINVAL, 99 },
		{ " 1", -EINVAL, 99 },
		{ "1 ", -EINVAL, 99 },
		{ "+1", -EINVAL, 99 },
		{ "-1", -EINVAL, 99 },
		{ "0x10", -EINVAL, 99 },
		{ "1e3", -EINVAL, 99 },
		{ "99999999999999999999999", -ERANGE, 99 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t value = 99;

		assert_int_equal(parse_u32(cases[i].s, 1, 65535, &value), cases[i].r);
		assert_int_equal(value, cases[i].value);
	}
}

static void test_duration(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint64_t ms;
	} cases[] = {
		{ "1ms", 0, 1 },
		{ "500ms", 0, 500 },
		{ "10", 0, 10000 },
		{ "10s", 0, 10000 },
		{ "5m", 0, 300000 },
		{ "168h", 0, 604800000 },
		{ "169h", -ERANGE, 7 },
		{ "0", 0, 0 },
		{ "0ms", 0, 0 },
		{ "0h", 0, 0 },
		{ "7d", 0, 604800000 },
		{ "8d", -ERANGE, 7 },
		{ "10081m", -ERANGE, 7 },
		{ "1w", -EINVAL, 7 },
		{ "ms", -EINVAL, 7 },
		{ "1 s", -EINVAL, 7 },
		{ "1s ", -EINVAL, 7 },
		{ "", -EINVAL, 7 },
		{ "1.5s", -EINVAL, 7 },
		{ "-1s", -EINVAL, 7 },
		{ "1S", -EINVAL, 7 },
		{ "604800001ms", -ERANGE, 7 },
		{ "18446744073709551616ms", -ERANGE, 7 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t ms = 7;

		assert_int_equal(parse_duration_ms(cases[i].s, &ms), cases[i].r);
		assert_int_equal(ms, cases[i].ms);
	}
}

static void test_endpoint(void **state)
{
	static const char *const bad[] = {
		"",
		"127.0.0.1",
		"127.0.0.1:",
		":80",
		"127.1:80",
		"1.2.3.4:a",
		"1.2.3.4:-1",
		"1.2.3.4:65536",
		"1.2.3.4:80 ",
		" 1.2.3.4:80",
		"[::1]80",
		"1.2.3.4.5:80",
		"256.0.0.1:80",
		"localhost:80",
		"01.2.3.4:80",
		"[::1]",
		"[]:80",
		"[::1:80",
		"::1]:80",
		"::1:80",
		"[1.2.3.4]:80",
		"[fe80::1%lo]:80",
		":",
		"]:1",
		"1.2.3.4:80:80",
		"111111111111111111111111111111:1",
	};
	union sockaddr_any addr;
	char buf[FORMAT_ENDPOINT_LEN];
	size_t i;

	assert_int_equal(parse_endpoint("255.255.255.255:65535", &addr), 0);
	assert_int_equal(addr.in.sin_family, AF_INET);
	assert_int_equal(addr.in.sin_addr.s_addr, 0xffffffff);
	assert_int_equal(addr.in.sin_port, htons(65535));
	assert_string_equal(format_endpoint(&addr, buf), "255.255.255.255:65535");
	assert_int_equal(parse_endpoint("127.0.0.1:0", &addr), 0);
	assert_int_equal(parse_endpoint("[2001:db8::1]:443", &addr), 0);
	assert_int_equal(addr.in6.sin6_family, AF_INET6);
	assert_int_equal(sockaddr_len(&addr), sizeof(addr.in6));
	assert_string_equal(format_endpoint(&addr, buf), "[2001:db8::1]:443");
	assert_int_equal(parse_endpoint("127.0.0.1:0", &addr), 0);
	assert_int_equal(sockaddr_len(&addr), sizeof(addr.in));
	assert_string_equal(format_endpoint(&addr, buf), "127.0.0.1:0");
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(parse_endpoint(bad[i], &addr) < 0);
		assert_int_equal(addr.in.sin_port, 0);
	}
}

static void test_format(void **state)
{
	char buf[64];

	assert_string_equal(format_bytes(0, buf), "0 B");
	assert_string_equal(format_bytes(999, buf), "999 B");
	assert_string_equal(format_bytes(1000, buf), "1.0 kB");
	assert_string_equal(format_bytes(200000000, buf), "200.0 MB");
	assert_string_equal(format_bytes(999949999, buf), "999.9 MB");
	assert_string_equal(format_bytes(999950000, buf), "1.0 GB");
	assert_string_equal(format_bytes(UINT64_MAX, buf), "18.4 EB");
	assert_string_equal(format_duration_ms(0, buf), "0.000 s");
	assert_string_equal(format_duration_ms(59999, buf), "59.999 s");
	assert_string_equal(format_duration_ms(200000, buf), "3 min 20 s");
	assert_string_equal(format_duration_ms(18120000, buf), "5 h 2 min");
}

static void test_bool(void **state)
{
	static const char *const yes[] = { "yes", "true", "on", "1", "YES", "True" };
	static const char *const no[] = { "no", "false", "off", "0", "No", "OFF" };
	static const char *const neither[] = { "", "y", "2", "01", "yes ", "enabled" };
	bool value;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(yes); i++) {
		value = false;
		assert_int_equal(parse_bool(yes[i], &value), 0);
		assert_true(value);
	}
	for (i = 0; i < ARRAY_SIZE(no); i++) {
		value = true;
		assert_int_equal(parse_bool(no[i], &value), 0);
		assert_false(value);
	}
	for (i = 0; i < ARRAY_SIZE(neither); i++)
		assert_int_equal(parse_bool(neither[i], &value), -EINVAL);
}

/*
 * To see it fail: multiply before the exclusive or (FNV-1), return the id 0, or accept one more
 * character.
 */
static void test_upstream(void **state)
{
	static const char *const names[] = { "a", "corp", "direct", "SQUID_2-b",
					     "1234567890123456789012345678901" };
	static const char *const no_names[] = {
		"",   "a b", "a.b", "a,b", "a@",       "[a",
		"a`", "{",   "a/b", "a:",  "\xc3\xa4", "12345678901234567890123456789012"
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		assert_true(upstream_name_is_valid(names[i], strlen(names[i])));
	for (i = 0; i < ARRAY_SIZE(no_names); i++)
		assert_false(upstream_name_is_valid(no_names[i], strlen(no_names[i])));
	assert_true(upstream_name_is_valid("a b", 1));
	assert_false(upstream_name_is_valid("a\0b", 3));

	/* Published values of FNV-1a. */
	assert_int_equal(upstream_id("a"), 0xe40c292c);
	assert_int_equal(upstream_id("b"), 0xe70c2de5);
	assert_int_equal(upstream_id("foobar"), 0xbf9cf968);
	/* The hash of this name is 0. */
	assert_int_equal(upstream_id("akhnp9x"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_u32),	 cmocka_unit_test(test_size),
		cmocka_unit_test(test_duration), cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_format),	 cmocka_unit_test(test_bool),
		cmocka_unit_test(test_upstream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
