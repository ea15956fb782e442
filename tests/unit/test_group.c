// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/upstream/group.c, upstream.c and route.c: the order of a group's members, what a
 * reload keeps, and which route a connection takes.
 */
#include <errno.h>

#include "parse.h"
#include "tproxy_abi.h"
#include "upstream/group.h"
#include "upstream/resolver.h"
#include "upstream/route.h"
#include "upstream/secret.h"
#include "upstreams.h"

#define KEYS 3000

static const char *const names[] = { "a", "b", "c", "d" };

/* A group of the first n names, each with its weight. */
static struct upstreams *group_of(enum upstream_order order, size_t n, const uint32_t *weights)
{
	struct upstream_conf *group;
	size_t i;

	for (i = 0; i < n; i++)
		add_upstream(names[i], UPSTREAM_TCP, NULL);
	group = add_upstream("group", UPSTREAM_GROUP, NULL);
	group->order = order;
	group->n_members = n;
	for (i = 0; i < n; i++) {
		strcpy(group->members[i].name, names[i]);
		group->members[i].weight = weights ? weights[i] : 1;
	}
	return make_upstreams("group", NULL);
}

/* Returns the order of the connection with number i, as "abc". */
static const char *order_of(const struct upstreams *set, uint32_t i, char text[8])
{
	const struct tproxy_conn conn = { .cookie = i + 1, .cgroup_id = i + 1 };
	union sockaddr_any dst = { .in = { .sin_family = AF_INET, .sin_addr = { i } } };
	const struct group_key key = { .client = &dst, .dst = &dst, .conn = &conn };
	struct upstream *order[UPSTREAM_MEMBERS_MAX];
	size_t n = group_order(set, set->by_default, &key, order), j;

	for (j = 0; j < n; j++)
		text[j] = order[j]->conf.name[0];
	text[n] = '\0';
	return text;
}

static void test_failover(void **state)
{
	struct upstreams *set = group_of(UPSTREAM_FAILOVER, 3, NULL);
	char text[8];
	uint32_t i;

	for (i = 0; i < 100; i++)
		assert_string_equal(order_of(set, i, text), "abc");
	upstreams_unref(set);
}

/* An upstream that is no group is the whole order. */
static void test_alone(void **state)
{
	struct upstreams *set;
	char text[8];

	add_upstream("z", UPSTREAM_SOCKS5, NULL);
	set = make_upstreams("z", NULL);
	assert_string_equal(order_of(set, 0, text), "z");
	upstreams_unref(set);
}

/* Each member is the first one as often as its weight says. To see it fail: ignore the weight. */
static void test_weights(void **state)
{
	static const uint32_t weights[] = { 1, 2, 3 };
	struct upstreams *set = group_of(UPSTREAM_WEIGHTED, 3, weights);
	uint32_t first[3] = {}, i, expected;
	char text[8];

	for (i = 0; i < KEYS; i++)
		first[order_of(set, i, text)[0] - 'a']++;
	for (i = 0; i < 3; i++) {
		expected = KEYS * weights[i] / 6;
		assert_in_range(first[i], expected * 85 / 100, expected * 115 / 100);
	}
	upstreams_unref(set);
}

/*
 * Without the member d, the connections of d go to the others, and the others keep theirs. To see
 * it fail: choose by the remainder of a division by the number of members.
 */
static void test_only_the_share_of_the_dead_moves(void **state)
{
	struct upstreams *four = group_of(UPSTREAM_HASH_CLIENT, 4, NULL);
	struct upstreams *three = group_of(UPSTREAM_HASH_CLIENT, 3, NULL);
	char with[8], without[8];
	uint32_t moved[3] = {}, i;

	for (i = 0; i < KEYS; i++) {
		order_of(four, i, with);
		order_of(three, i, without);
		if (with[0] != 'd') {
			assert_int_equal(without[0], with[0]);
			continue;
		}
		/* The second choice is there already: a dial goes on with it. */
		assert_int_equal(without[0], with[1]);
		moved[without[0] - 'a']++;
	}
	for (i = 0; i < 3; i++)
		assert_in_range(moved[i], KEYS / 12 * 7 / 10, KEYS / 12 * 13 / 10);
	upstreams_unref(four);
	upstreams_unref(three);
}

/* The key is what the order says: the client's cgroup, or the destination's address. */
static void test_keys(void **state)
{
	struct upstreams *by_client = group_of(UPSTREAM_HASH_CLIENT, 4, NULL);
	struct upstreams *by_dst = group_of(UPSTREAM_HASH_DESTINATION, 4, NULL);
	struct upstream *order[UPSTREAM_MEMBERS_MAX];
	union sockaddr_any a = { .in = { .sin_family = AF_INET, .sin_port = 1 } }, b = a;
	struct tproxy_conn conn = {};
	bool moved_by_dst = false, moved_by_cgroup = false;
	struct group_key key = { .client = &a, .dst = &b, .conn = &conn };
	struct upstream *first = NULL;
	uint32_t i;

	for (i = 1; i < 50; i++) {
		conn = (struct tproxy_conn){ .cgroup_id = 7, .cookie = i };
		b.in.sin_addr.s_addr = i;
		group_order(by_client, by_client->by_default, &key, order);
		if (i == 1)
			first = order[0];
		assert_ptr_equal(order[0], first);
	}
	for (i = 1; i < 50; i++) {
		conn = (struct tproxy_conn){ .cgroup_id = i, .cookie = i };
		group_order(by_client, by_client->by_default, &key, order);
		moved_by_cgroup |= order[0] != first;
	}
	assert_true(moved_by_cgroup);
	b.in.sin_addr.s_addr = 1;
	for (i = 1; i < 50; i++) {
		conn = (struct tproxy_conn){ .cgroup_id = i, .cookie = i };
		b.in.sin_port = (in_port_t)i;
		group_order(by_dst, by_dst->by_default, &key, order);
		if (i == 1)
			first = order[0];
		assert_ptr_equal(order[0], first);
	}
	for (i = 1; i < 50; i++) {
		b.in.sin_addr.s_addr = i;
		group_order(by_dst, by_dst->by_default, &key, order);
		moved_by_dst |= order[0] != first;
	}
	assert_true(moved_by_dst);
	upstreams_unref(by_client);
	upstreams_unref(by_dst);
}

/* Counts the first choices for clients that differ in their keys only: 1 or more. */
static unsigned int choices(const struct upstreams *set, void (*make)(struct group_key *, uint32_t))
{
	struct upstream *order[UPSTREAM_MEMBERS_MAX];
	bool chosen[4] = {};
	uint32_t i;

	for (i = 1; i < 100; i++) {
		union sockaddr_any addr = { .in = { .sin_family = AF_INET, .sin_port = 1 } };
		struct tproxy_conn conn = {};
		struct group_key key = { .client = &addr, .dst = &addr, .conn = &conn };

		make(&key, i);
		group_order(set, set->by_default, &key, order);
		chosen[order[0]->conf.name[0] - 'a'] = true;
	}
	return chosen[0] + chosen[1] + chosen[2] + chosen[3];
}

/* The members of struct group_key are const for group.c only. */
static struct tproxy_conn *conn_of(struct group_key *key)
{
	return (struct tproxy_conn *)key->conn;
}

static union sockaddr_any *client_of(struct group_key *key)
{
	return (union sockaddr_any *)key->client;
}

static void by_cookie(struct group_key *key, uint32_t i)
{
	conn_of(key)->cookie = i;
}

static void by_port(struct group_key *key, uint32_t i)
{
	client_of(key)->in.sin_port = (in_port_t)i;
}

static void by_address(struct group_key *key, uint32_t i)
{
	client_of(key)->in.sin_addr.s_addr = i;
}

static void by_address_without_conn(struct group_key *key, uint32_t i)
{
	by_address(key, i);
	key->conn = NULL;
}

/* Two hosts of one IPv6 network. */
static void by_interface_id(struct group_key *key, uint32_t i)
{
	*client_of(key) = (union sockaddr_any){ .in6 = { .sin6_family = AF_INET6 } };
	client_of(key)->in6.sin6_addr.s6_addr[0] = 0x20;
	client_of(key)->in6.sin6_addr.s6_addr[15] = (uint8_t)i;
}

static void by_network(struct group_key *key, uint32_t i)
{
	by_interface_id(key, 1);
	client_of(key)->in6.sin6_addr.s6_addr[7] = (uint8_t)i;
}

/*
 * What takes the place of a cgroup or an id that is not known, and what counts of an IPv6 address.
 * To see it fail: leave one of these out of hash_key(), or half of the address out of
 * hash_address().
 */
static void test_keys_that_are_left(void **state)
{
	struct upstreams *by_client = group_of(UPSTREAM_HASH_CLIENT, 4, NULL);
	struct upstreams *by_dst = group_of(UPSTREAM_HASH_DESTINATION, 4, NULL);
	struct upstreams *weighted = group_of(UPSTREAM_WEIGHTED, 4, NULL);

	assert_int_equal(choices(weighted, by_cookie), 4);
	assert_int_equal(choices(weighted, by_port), 4);
	assert_int_equal(choices(by_client, by_port), 1);
	assert_int_equal(choices(by_client, by_address), 4);
	assert_int_equal(choices(by_client, by_address_without_conn), 4);
	assert_int_equal(choices(by_client, by_interface_id), 4);
	assert_int_equal(choices(by_client, by_network), 4);
	assert_int_equal(choices(by_dst, by_cookie), 1);
	assert_int_equal(choices(by_dst, by_interface_id), 4);
	upstreams_unref(by_client);
	upstreams_unref(by_dst);
	upstreams_unref(weighted);
}

/* Changes the n-th thing that a section can say. Returns false if there are not so many. */
static bool change(struct upstream_conf *u, unsigned int n)
{
	switch (n) {
	case 0:
		u->type = UPSTREAM_HTTP;
		return true;
	case 1:
		u->port++;
		return true;
	case 2:
		u->addr.in.sin_port++;
		return true;
	case 3:
		u->tls = true;
		return true;
	case 4:
		u->tls_verify = true;
		return true;
	case 5:
		strcpy(u->tls_name, "a");
		return true;
	case 6:
		strcpy(u->tls_ca, "/a");
		return true;
	case 7:
		strcpy(u->user, "a");
		return true;
	case 8:
		assert_int_equal(secret_new("a", 1, &u->secret), 0);
		return true;
	case 9:
		u->send_name = true;
		return true;
	case 10:
		u->pipeline = true;
		return true;
	case 11:
		u->proxy_process = true;
		return true;
	case 12:
		u->proxy_header = PROXY_HEADER_V1;
		return true;
	case 13:
		u->when_down = UPSTREAM_DOWN_WAIT;
		return true;
	case 14:
		u->down_error = EACCES;
		return true;
	case 15:
		u->down_wait_ms = 1;
		return true;
	case 16:
		u->check_interval_ms = 100;
		return true;
	case 17:
		u->order = UPSTREAM_WEIGHTED;
		return true;
	case 18:
		u->n_members = 1;
		strcpy(u->members[0].name, "b");
		return true;
	case 19:
		u->members[0].weight = 1;
		return true;
	case 20:
		strcpy(u->host, "localhost");
		return true;
	}
	return false;
}

/* What a reload changes takes effect. To see it fail: leave a member out of is_same(). */
static void test_reload_takes_each_change(void **state)
{
	const struct resolver_config config = { .servers = "127.0.0.1:1" };
	struct upstreams *before, *after;
	struct resolver *resolver;
	struct upstream_conf *u;
	unsigned int n;
	bool changed;

	add_upstream("a", UPSTREAM_TCP, NULL);
	add_upstream("b", UPSTREAM_TCP, NULL);
	before = make_upstreams("a", NULL);
	assert_int_equal(resolver_new(&config, &resolver), 0);
	for (n = 0, changed = true; changed; n++) {
		u = add_upstream("a", UPSTREAM_TCP, NULL);
		changed = change(u, n);
		add_upstream("b", UPSTREAM_TCP, NULL);
		strcpy(upstreams_conf.default_name, "a");
		assert_int_equal(upstreams_new(&upstreams_conf, resolver, before, &after), 0);
		assert_int_equal(changed, after->by_default != before->by_default);
		assert_ptr_equal(after->list[1], before->list[1]);
		upstreams_unref(after);
	}
	assert_true(n > 1);
	upstreams_unref(before);
	resolver_free(resolver);
}

/* To see it fail: make each upstream of a set new; compare only the names. */
static void test_reload_keeps_what_is_unchanged(void **state)
{
	struct upstreams *before, *after;
	struct upstream *kept, *changed;

	add_upstream("kept", UPSTREAM_TCP, NULL)->port = 1;
	add_upstream("changed", UPSTREAM_TCP, NULL)->port = 1;
	add_upstream("gone", UPSTREAM_TCP, NULL);
	before = make_upstreams("kept", NULL);
	kept = upstreams_find(before, upstream_id("kept"));
	changed = upstreams_find(before, upstream_id("changed"));
	atomic_store(&kept->figures.total, 7);
	add_upstream("changed", UPSTREAM_TCP, NULL)->port = 2;
	add_upstream("kept", UPSTREAM_TCP, NULL)->port = 1;
	kept->conf.line = 99; /* a line further down in the file is no change */
	after = make_upstreams("changed", before);
	assert_ptr_equal(upstreams_find(after, upstream_id("kept")), kept);
	assert_ptr_not_equal(upstreams_find(after, upstream_id("changed")), changed);
	assert_ptr_equal(upstreams_find(after, 0), upstreams_find(after, upstream_id("changed")));
	assert_null(upstreams_find(after, upstream_id("gone")));
	/* A session of the old set goes on with it. */
	upstreams_ref(before);
	upstreams_unref(before);
	assert_int_equal(changed->conf.port, 1);
	upstreams_unref(before);
	assert_int_equal(atomic_load(&kept->figures.total), 7);
	upstreams_unref(after);
}

static void assert_route(const struct upstreams *set, uint32_t rule, enum route_kind kind,
			 const char *name)
{
	const struct route_query query = { .set = set, .rule = rule };
	struct route route;

	route_of(&query, &route);
	assert_int_equal(route.kind, kind);
	if (name)
		assert_string_equal(route.upstream->conf.name, name);
}

static void test_routes(void **state)
{
	struct upstreams *set;

	assert_route(NULL, 0, ROUTE_DIRECT, NULL);
	assert_route(NULL, upstream_id("direct"), ROUTE_DIRECT, NULL);
	assert_route(NULL, upstream_id("a"), ROUTE_UNKNOWN, NULL);
	add_upstream("a", UPSTREAM_TCP, NULL);
	add_upstream("b", UPSTREAM_TCP, NULL);
	add_upstream("plain", UPSTREAM_DIRECT, NULL);
	add_upstream("header", UPSTREAM_DIRECT, NULL)->proxy_header = PROXY_HEADER_V2;
	set = make_upstreams("b", NULL);
	assert_route(set, 0, ROUTE_UPSTREAM, "b");
	assert_route(set, upstream_id("a"), ROUTE_UPSTREAM, "a");
	assert_route(set, upstream_id("nobody"), ROUTE_UNKNOWN, NULL);
	assert_route(set, upstream_id("direct"), ROUTE_DIRECT, NULL);
	assert_route(set, upstream_id("plain"), ROUTE_DIRECT, NULL);
	assert_route(set, upstream_id("header"), ROUTE_UPSTREAM, "header");
	upstreams_unref(set);
	add_upstream("a", UPSTREAM_TCP, NULL);
	set = make_upstreams("", NULL);
	assert_route(set, 0, ROUTE_DIRECT, NULL);
	upstreams_unref(set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failover),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_only_the_share_of_the_dead_moves),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_keys_that_are_left),
		cmocka_unit_test(test_reload_takes_each_change),
		cmocka_unit_test(test_reload_keeps_what_is_unchanged),
		cmocka_unit_test(test_routes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
