// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests bpf/endpoint.bpf.h, built by the host's compiler. */
#include "endpoint.bpf.h"

#include <arpa/inet.h>
#include <string.h>

#include "unit.h"
#include "util.h"

/* To see it fail: look at the last word only. */
static void test_wildcard(void **state)
{
	static const struct {
		const char *ip, *expected;
	} cases[] = {
		{ "::", "::1" },
		{ "::1", "::1" },
		{ "2001:db8::", "2001:db8::" },
		{ "::ffff:0.0.0.0", "::ffff:127.0.0.1" },
		{ "::ffff:10.0.0.0", "::ffff:10.0.0.0" },
		{ "::fffe:0.0.0.0", "::fffe:0.0.0.0" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tproxy_endpoint ep = {}, expected = {};

		assert_int_equal(inet_pton(AF_INET6, cases[i].ip, ep.addr), 1);
		assert_int_equal(inet_pton(AF_INET6, cases[i].expected, expected.addr), 1);
		endpoint_replace_wildcard(&ep);
		assert_true(endpoint_equal(&ep, &expected));
	}
}

static void test_class4(void **state)
{
	static const struct {
		const char *ip;
		enum endpoint_class expected;
	} cases[] = {
		{ "0.0.0.0", ENDPOINT_LOOPBACK },
		{ "127.0.0.1", ENDPOINT_LOOPBACK },
		{ "127.255.255.255", ENDPOINT_LOOPBACK },
		{ "126.255.255.255", ENDPOINT_ORDINARY },
		{ "128.0.0.1", ENDPOINT_ORDINARY },
		{ "255.0.0.1", ENDPOINT_ORDINARY }, /* fails if 0x7f is used as a mask */
		{ "0.0.0.1", ENDPOINT_ORDINARY },
		{ "1.0.0.0", ENDPOINT_ORDINARY },
		{ "10.0.0.1", ENDPOINT_ORDINARY },
		{ "169.254.169.254", ENDPOINT_ORDINARY },
		{ "223.255.255.255", ENDPOINT_ORDINARY },
		{ "224.0.0.1", ENDPOINT_MULTICAST },
		{ "239.255.255.255", ENDPOINT_MULTICAST },
		{ "240.0.0.1", ENDPOINT_ORDINARY },
		{ "255.255.255.254", ENDPOINT_ORDINARY },
		{ "255.255.255.255", ENDPOINT_MULTICAST },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tproxy_endpoint ep;
		__be32 ip;

		assert_int_equal(inet_pton(AF_INET, cases[i].ip, &ip), 1);
		assert_int_equal(endpoint_class4(ip), cases[i].expected);
		endpoint_set4(&ep, ip, 443);
		assert_int_equal(endpoint_class(&ep), cases[i].expected);
	}
}

static void test_class6(void **state)
{
	static const struct {
		const char *ip;
		enum endpoint_class expected;
	} cases[] = {
		{ "::", ENDPOINT_LOOPBACK },
		{ "::1", ENDPOINT_LOOPBACK },
		{ "::2", ENDPOINT_ORDINARY },
		{ "::1:1", ENDPOINT_ORDINARY },
		{ "1::1", ENDPOINT_ORDINARY },
		{ "2001:db8::1", ENDPOINT_ORDINARY },
		{ "fd00::1", ENDPOINT_ORDINARY },
		{ "fe80::1", ENDPOINT_LINK_LOCAL },
		{ "febf::1", ENDPOINT_LINK_LOCAL },
		{ "fec0::1", ENDPOINT_ORDINARY },
		{ "ff02::1", ENDPOINT_MULTICAST },
		{ "::ffff:127.0.0.1", ENDPOINT_LOOPBACK },
		{ "::ffff:0.0.0.0", ENDPOINT_LOOPBACK },
		{ "::ffff:10.0.0.1", ENDPOINT_ORDINARY },
		{ "::ffff:224.0.0.1", ENDPOINT_MULTICAST },
		{ "::fffe:127.0.0.1", ENDPOINT_ORDINARY },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tproxy_endpoint ep;
		__be32 ip[4];

		assert_int_equal(inet_pton(AF_INET6, cases[i].ip, ip), 1);
		endpoint_set6(&ep, ip, 443);
		assert_int_equal(endpoint_class(&ep), cases[i].expected);
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
		cmocka_unit_test(test_wildcard), cmocka_unit_test(test_class4),
		cmocka_unit_test(test_class6),	 cmocka_unit_test(test_equal),
		cmocka_unit_test(test_endpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
