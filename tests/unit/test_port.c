// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests bpf/port.bpf.h and bpf/share.bpf.h, built by the host's compiler. */
#include "port.bpf.h"

#include <arpa/inet.h>
#include <string.h>

#include "share.bpf.h"

#include "unit.h"
#include "util.h"

static __u32 least_of(const __s32 *loads, __u32 n)
{
	struct port_least least = { .loads = loads, .load = 0x7fffffff };
	__u32 i;

	for (i = 0; i < n; i++)
		assert_int_equal(port_compare(i, &least), 0);
	return least.index;
}

static void test_least(void **state)
{
	static const __s32 equal[TPROXY_PORTS_MAX], last[TPROXY_PORTS_MAX] = { 2, 1, 3, 0, 0 },
						    negative[TPROXY_PORTS_MAX] = { 0, -1, 0 };

	assert_int_equal(least_of(equal, TPROXY_PORTS_MAX), 0);
	assert_int_equal(least_of(last, 3), 1);
	assert_int_equal(least_of(last, 5), 3); /* the lowest index of equals */
	assert_int_equal(least_of(negative, 3), 1);
}

static void test_next(void **state)
{
	struct tproxy_listen listen = { .n_ports = 4 };

	assert_int_equal(port_next(&listen, 0), 1);
	assert_int_equal(port_next(&listen, 3), 0);
	listen.n_ports = 1;
	assert_int_equal(port_next(&listen, 0), 0);
	listen.n_ports = 0xffff; /* the map may contain any number */
	assert_int_equal(port_next(&listen, TPROXY_PORTS_MAX - 1), 0);
}

static void test_is_relays(void **state)
{
	struct tproxy_listen listen = { .n_ports = 3, .ports = { 10, 20, 30, 40 } };
	struct tproxy_endpoint relay, other;

	endpoint_set4(&relay, htonl(INADDR_LOOPBACK), 10);
	endpoint_set4(&other, htonl(INADDR_LOOPBACK + 1), 10);
	memcpy(listen.addr, relay.addr, sizeof(listen.addr));
	assert_true(port_is_relays(&listen, &relay));
	assert_false(port_is_relays(&listen, &other));
	relay.port = 30;
	assert_true(port_is_relays(&listen, &relay));
	relay.port = 40;
	assert_false(port_is_relays(&listen, &relay));
	listen.n_ports = 0xffff;
	listen.ports[TPROXY_PORTS_MAX - 1] = relay.port = 50;
	assert_true(port_is_relays(&listen, &relay));
	relay.port = 60;
	assert_false(port_is_relays(&listen, &relay));
}

static void test_shares(void **state)
{
	const __s64 max = TPROXY_CONNECTIONS_MAX;
	__s64 connections[_TPROXY_SHARE_MAX] = {};
	enum tproxy_share share;

	assert_true(share_limit(TPROXY_SHARE_USER) < share_limit(TPROXY_SHARE_CGROUP));
	assert_true(share_limit(TPROXY_SHARE_CGROUP) < share_limit(TPROXY_SHARE_SLICE));
	assert_true(share_limit(TPROXY_SHARE_SLICE) < max);
	for (share = 0; share < _TPROXY_SHARE_MAX; share++) {
		connections[share] = share_limit(share) - 1;
		assert_true(share_is_free(connections));
		connections[share]++;
		assert_false(share_is_free(connections));
		connections[share] = -1; /* ended after the map was created again */
		assert_true(share_is_free(connections));
	}
}

/* The seed changes the counter, and the kinds of shares are apart. */
static void test_share_index(void **state)
{
	unsigned int same_seed = 0, same_kind = 0;
	__u64 id;

	for (id = 0; id < 1000; id++) {
		__u16 index = share_index(1, TPROXY_SHARE_USER, id);

		assert_true(index < TPROXY_SHARES_MAX);
		same_seed += index == share_index(2, TPROXY_SHARE_USER, id);
		same_kind += index == share_index(1, TPROXY_SHARE_CGROUP, id);
	}
	assert_true(same_seed < 10);
	assert_true(same_kind < 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_least),	    cmocka_unit_test(test_next),
		cmocka_unit_test(test_is_relays),   cmocka_unit_test(test_shares),
		cmocka_unit_test(test_share_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
