// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests bpf/match.bpf.h, the pure part of connect, built by the host's compiler. */
#include "match.bpf.h"

#include <arpa/inet.h>
#include <string.h>

#include "unit.h"
#include "util.h"

static enum match_verdict match(const char *ip, __u32 flags)
{
	struct in_addr addr;

	assert_int_equal(inet_pton(AF_INET, ip, &addr), 1);
	return match_dst4((const __u8 *)&addr, flags);
}

static void test_dst4(void **state)
{
	static const struct {
		const char *ip;
		enum match_verdict by_default, with_loopback;
	} cases[] = {
		{ "0.0.0.0", MATCH_BYPASS_LOOPBACK, MATCH_REDIRECT },
		{ "127.0.0.1", MATCH_BYPASS_LOOPBACK, MATCH_REDIRECT },
		{ "127.255.255.255", MATCH_BYPASS_LOOPBACK, MATCH_REDIRECT },
		{ "126.255.255.255", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "128.0.0.1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "255.0.0.1", MATCH_REDIRECT,
		  MATCH_REDIRECT }, /* would match if 0x7f were used as a mask */
		{ "0.0.0.1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "1.0.0.0", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "10.0.0.1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "223.255.255.255", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "224.0.0.1", MATCH_BYPASS_MULTICAST, MATCH_BYPASS_MULTICAST },
		{ "239.255.255.255", MATCH_BYPASS_MULTICAST, MATCH_BYPASS_MULTICAST },
		{ "240.0.0.1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "255.255.255.254", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "255.255.255.255", MATCH_BYPASS_MULTICAST, MATCH_BYPASS_MULTICAST },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(match(cases[i].ip, 0), cases[i].by_default);
		assert_int_equal(match(cases[i].ip, TPROXY_FAIL_CLOSED), cases[i].by_default);
		assert_int_equal(match(cases[i].ip, TPROXY_INCLUDE_LOOPBACK),
				 cases[i].with_loopback);
	}
}

static void test_dst6(void **state)
{
	static const struct {
		const char *ip;
		enum match_verdict by_default, with_loopback;
	} cases[] = {
		{ "::", MATCH_BYPASS_LOOPBACK, MATCH_REDIRECT },
		{ "::1", MATCH_BYPASS_LOOPBACK, MATCH_REDIRECT },
		{ "::2", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "::1:1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "1::1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "2001:db8::1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "fd00::1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "fe80::1", MATCH_LINK_LOCAL, MATCH_LINK_LOCAL },
		{ "febf::1", MATCH_LINK_LOCAL, MATCH_LINK_LOCAL },
		{ "fec0::1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "ff02::1", MATCH_BYPASS_MULTICAST, MATCH_BYPASS_MULTICAST },
		{ "::ffff:127.0.0.1", MATCH_BYPASS_LOOPBACK, MATCH_REDIRECT },
		{ "::ffff:0.0.0.0", MATCH_BYPASS_LOOPBACK, MATCH_REDIRECT },
		{ "::ffff:10.0.0.1", MATCH_REDIRECT, MATCH_REDIRECT },
		{ "::ffff:224.0.0.1", MATCH_BYPASS_MULTICAST, MATCH_BYPASS_MULTICAST },
		{ "::fffe:127.0.0.1", MATCH_REDIRECT, MATCH_REDIRECT },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tproxy_endpoint dst;
		__be32 ip[4];

		assert_int_equal(inet_pton(AF_INET6, cases[i].ip, ip), 1);
		endpoint_set6(&dst, ip, 443);
		assert_int_equal(match_dst(&dst, 0), cases[i].by_default);
		assert_int_equal(match_dst(&dst, TPROXY_INCLUDE_LOOPBACK), cases[i].with_loopback);
	}
}

static void test_equal(void **state)
{
	struct tproxy_endpoint a, b;
	int i;

	endpoint_set4(&a, htonl(0x0a000001), 80);
	b = a;
	assert_true(endpoint_equal(&a, &b));
	b.port++;
	assert_false(endpoint_equal(&a, &b));
	b = a;
	for (i = 0; i < 16; i++) {
		b.addr[i] ^= 1;
		assert_false(endpoint_equal(&a, &b));
		b.addr[i] ^= 1;
	}
}

static void test_endpoint(void **state)
{
	static const __u8 expected[16] = { [10] = 0xff, [11] = 0xff, 10, 1, 2, 3 };
	struct tproxy_endpoint ep;
	__be32 ip;
	int i;

	assert_int_equal(inet_pton(AF_INET, "10.1.2.3", &ip), 1);
	memset(&ep, 0xaa, sizeof(ep)); /* part of a map key: every byte must be written */
	endpoint_set4(&ep, ip, 8080);
	assert_memory_equal(ep.addr, expected, sizeof(expected));
	assert_int_equal(ep.port, 8080);
	assert_int_equal(ep.reserved, 0);
	assert_true(endpoint_is_mapped4(&ep));
	assert_int_equal(endpoint_get4(&ep), ip);
	for (i = 0; i < 12; i++) {
		ep.addr[i] ^= 1;
		assert_false(endpoint_is_mapped4(&ep));
		ep.addr[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dst4),
		cmocka_unit_test(test_dst6),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_endpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
