// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests bpf/decide.bpf.h, built by the host's compiler: each outcome in a table, and properties of
 * decide() over random facts. tests/fuzz/fuzz_decide.c checks the same properties.
 */
#include "decide.bpf.h"

#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "util.h"

#define NOW_NS 1000000000000ULL
#define ROUNDS 200000

static const struct tproxy_policy fail_open;
static const struct tproxy_policy fail_closed = { .flags = TPROXY_FAIL_CLOSED };
static const struct tproxy_policy include_loopback = { .flags = TPROXY_INCLUDE_LOOPBACK };
static const struct tproxy_policy rules_loopback = { .flags = TPROXY_RULES_LOOPBACK };

/* A connection that is redirected. */
static struct facts good(void)
{
	return (struct facts){
		.dst_port = 443,
		.has_relay = true,
		.now_ns = NOW_NS,
		.alive_ns = NOW_NS - TPROXY_STALE_NS,
		.has_listener = true,
		.has_storage = true,
		.has_room = true,
	};
}

static void check(struct facts facts, const struct tproxy_policy *policy, enum verdict verdict,
		  enum tproxy_stat reason, int error)
{
	struct decision d = decide(&facts, policy, STAGE_ROOM);

	assert_int_equal(d.verdict, verdict);
	assert_int_equal(d.reason, reason);
	assert_int_equal(d.error, error);
	assert_int_equal(d.fail_closed, verdict == VERDICT_REFUSE &&
						reason != TPROXY_STAT_NEGATIVE_CACHE &&
						reason != TPROXY_STAT_RULE_REFUSED &&
						reason != TPROXY_STAT_BLOCKED);
}

/* Direct or refused, as the policy says. */
static void check_policy(struct facts facts, enum tproxy_stat reason)
{
	check(facts, &fail_open, VERDICT_DIRECT, reason, 0);
	check(facts, &fail_closed, VERDICT_REFUSE, reason, ECONNREFUSED);
}

static void check_direct(struct facts facts, enum tproxy_stat reason)
{
	check(facts, &fail_open, VERDICT_DIRECT, reason, 0);
	check(facts, &fail_closed, VERDICT_DIRECT, reason, 0);
}

static void test_redirect(void **state)
{
	struct facts facts = good();

	check(facts, &fail_open, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	check(facts, &fail_closed, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.dst_class = ENDPOINT_LOOPBACK;
	check(facts, &include_loopback, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.alive_ns = 0; /* registered by tproxyctl: no heartbeat */
	check(facts, &include_loopback, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
}

static void test_direct(void **state)
{
	struct facts facts = good();

	facts.dst_class = ENDPOINT_LOOPBACK;
	check_direct(facts, TPROXY_STAT_BYPASS_LOOPBACK);
	facts.dst_class = ENDPOINT_MULTICAST;
	check_direct(facts, TPROXY_STAT_BYPASS_MULTICAST);
	facts = good();
	facts.exempt = true;
	check_direct(facts, TPROXY_STAT_BYPASS_RELAY);
	facts = good();
	facts.dst_port = 0;
	check_direct(facts, TPROXY_STAT_BYPASS_PORT0);
	facts = good();
	facts.repair = true;
	check_direct(facts, TPROXY_STAT_BYPASS_REPAIR);
	facts = good();
	facts.dst_is_relay = true;
	check_direct(facts, TPROXY_STAT_BYPASS_LISTENER);
}

/* Before the relay, the rules and all else; only loopback goes before. */
static void test_block(void **state)
{
	struct facts facts = good();

	facts.block_error = ENETUNREACH;
	facts.exempt = true;
	facts.dst_port = 0;
	facts.repair = true;
	facts.rule_action = TPROXY_RULE_DIRECT;
	check(facts, &fail_open, VERDICT_REFUSE, TPROXY_STAT_BLOCKED, ENETUNREACH);
	check(facts, &fail_closed, VERDICT_REFUSE, TPROXY_STAT_BLOCKED, ENETUNREACH);
	facts.dst_class = ENDPOINT_LOOPBACK;
	check_direct(facts, TPROXY_STAT_BYPASS_LOOPBACK);
	check(facts, &include_loopback, VERDICT_DIRECT, TPROXY_STAT_BYPASS_RELAY, 0);
	facts.dst_class = ENDPOINT_MULTICAST;
	check_direct(facts, TPROXY_STAT_BYPASS_MULTICAST);
}

static void test_policy(void **state)
{
	struct facts facts = good();
	enum tproxy_share share;

	facts.dst_class = ENDPOINT_LINK_LOCAL;
	check_policy(facts, TPROXY_STAT_LINK_LOCAL);
	facts = good();
	facts.unsupported = true;
	check_policy(facts, TPROXY_STAT_UNSUPPORTED);
	facts = good();
	facts.has_relay = false;
	check_policy(facts, TPROXY_STAT_NO_RELAY);
	facts = good();
	facts.has_listener = false;
	check_policy(facts, TPROXY_STAT_NO_LISTENER);
	facts = good();
	facts.alive_ns--;
	check_policy(facts, TPROXY_STAT_STALLED);
	facts = good();
	facts.bound_device = true;
	check_policy(facts, TPROXY_STAT_BOUND_DEVICE);
	facts = good();
	facts.has_storage = false;
	check_policy(facts, TPROXY_STAT_NO_STORAGE);
	for (share = 0; share < _TPROXY_SHARE_MAX; share++) {
		facts = good();
		facts.connections[share] = share_limit(share);
		check_policy(facts, TPROXY_STAT_OVER_SHARE);
	}
	facts = good();
	facts.has_room = false;
	check_policy(facts, TPROXY_STAT_MAP_FULL);
}

/* Both times must be recent: a relay that has registered since has none. */
static void test_strayed(void **state)
{
	struct facts facts = good();

	facts.relay_strayed_ns = facts.user_strayed_ns = NOW_NS - TPROXY_STRAYED_NS + 1;
	check_policy(facts, TPROXY_STAT_STRAYED);
	facts.user_strayed_ns--;
	check(facts, &fail_closed, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.user_strayed_ns = NOW_NS;
	facts.relay_strayed_ns--;
	check(facts, &fail_closed, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.relay_strayed_ns = 0;
	facts.now_ns = 1; /* just after boot */
	facts.alive_ns = 0;
	check(facts, &fail_closed, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
}

static void test_negative_cache(void **state)
{
	static const int valid[] = { EACCES, ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT };
	struct facts facts = good();
	size_t i;

	facts.failed_until_ns = NOW_NS + 1;
	for (i = 0; i < ARRAY_SIZE(valid); i++) {
		facts.failed_error = (__u32)valid[i];
		check(facts, &fail_open, VERDICT_REFUSE, TPROXY_STAT_NEGATIVE_CACHE, valid[i]);
		check(facts, &fail_closed, VERDICT_REFUSE, TPROXY_STAT_NEGATIVE_CACHE, valid[i]);
	}
	/* A relay can write any value: only errnos of a destination count. */
	facts.failed_error = EPERM;
	check(facts, &fail_open, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.failed_error = 0;
	check(facts, &fail_open, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.failed_error = ECONNREFUSED;
	facts.failed_until_ns = NOW_NS; /* expired */
	check(facts, &fail_open, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
}

/* A rule decides before everything that the fail policy is for. */
static void test_rules(void **state)
{
	struct facts facts = good();

	facts.rule_action = TPROXY_RULE_DIRECT;
	check_direct(facts, TPROXY_STAT_RULE_DIRECT);
	facts.has_relay = false;
	facts.unsupported = true;
	facts.dst_class = ENDPOINT_LINK_LOCAL;
	check_direct(facts, TPROXY_STAT_RULE_DIRECT);
	facts.rule_action = TPROXY_RULE_OBSERVE;
	check(facts, &fail_open, VERDICT_OBSERVE, TPROXY_STAT_RULE_OBSERVE, 0);
	check(facts, &fail_closed, VERDICT_OBSERVE, TPROXY_STAT_RULE_OBSERVE, 0);
	facts.rule_action = TPROXY_RULE_REFUSE;
	facts.rule_error = EACCES;
	check(facts, &fail_open, VERDICT_REFUSE, TPROXY_STAT_RULE_REFUSED, EACCES);
	check(facts, &fail_closed, VERDICT_REFUSE, TPROXY_STAT_RULE_REFUSED, EACCES);
	facts.rule_default = true;
	check(facts, &fail_open, VERDICT_REFUSE, TPROXY_STAT_RULE_REFUSED, EACCES);
	facts.exempt = true;
	check_direct(facts, TPROXY_STAT_BYPASS_RELAY);
}

/* The errno of a rule counts for this rule's verdict only. */
static void test_rule_error(void **state)
{
	struct facts facts = good();

	facts.rule_error = EACCES;
	check(facts, &fail_open, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.has_relay = false;
	check_policy(facts, TPROXY_STAT_NO_RELAY);
}

/* The upstream of a rule belongs to a redirect, and has no part in the verdict. */
static void test_upstream(void **state)
{
	struct facts facts = good();

	assert_int_equal(decide(&facts, &fail_open, STAGE_ROOM).upstream, 0);
	facts.rule_upstream = 0xfedcba98;
	check(facts, &fail_open, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	assert_int_equal(decide(&facts, &fail_open, STAGE_ROOM).upstream, 0xfedcba98);
	facts.has_room = false;
	check_policy(facts, TPROXY_STAT_MAP_FULL);
	assert_int_equal(decide(&facts, &fail_open, STAGE_ROOM).upstream, 0);
	facts.rule_action = TPROXY_RULE_DIRECT;
	check_direct(facts, TPROXY_STAT_RULE_DIRECT);
	assert_int_equal(decide(&facts, &fail_open, STAGE_ROOM).upstream, 0);
}

/* Without --include-loopback only a rule that names a loopback address applies to it. */
static void test_rules_loopback(void **state)
{
	struct facts facts = good();

	assert_false(is_named_only(&facts, &rules_loopback));
	facts.dst_class = ENDPOINT_LOOPBACK;
	assert_true(is_named_only(&facts, &rules_loopback));
	assert_false(is_named_only(&facts, &include_loopback));
	facts.rule_action = TPROXY_RULE_REFUSE;
	facts.rule_error = EACCES;
	facts.named_only = true;
	check(facts, &rules_loopback, VERDICT_REFUSE, TPROXY_STAT_RULE_REFUSED, EACCES);
	check_direct(facts, TPROXY_STAT_BYPASS_LOOPBACK); /* no rule names one */
	facts.rule_default = true;
	check(facts, &rules_loopback, VERDICT_DIRECT, TPROXY_STAT_BYPASS_LOOPBACK, 0);
	facts.rule_default = false;
	facts.rule_action = TPROXY_RULE_REDIRECT;
	check(facts, &rules_loopback, VERDICT_REDIRECT, TPROXY_STAT_REDIRECTED, 0);
	facts.named_only = false;
	facts.rule_default = true;
	facts.rule_action = TPROXY_RULE_REFUSE;
	check(facts, &include_loopback, VERDICT_REFUSE, TPROXY_STAT_RULE_REFUSED, EACCES);
}

/* Each row is decided by its first cause, although those of all later rows hold too. */
static void test_order(void **state)
{
	static const enum tproxy_stat order[] = {
		TPROXY_STAT_BYPASS_LOOPBACK, TPROXY_STAT_BYPASS_RELAY, TPROXY_STAT_BYPASS_PORT0,
		TPROXY_STAT_BYPASS_REPAIR,   TPROXY_STAT_RULE_DIRECT,  TPROXY_STAT_UNSUPPORTED,
		TPROXY_STAT_NO_RELAY,	     TPROXY_STAT_NO_LISTENER,  TPROXY_STAT_STALLED,
		TPROXY_STAT_BYPASS_LISTENER, TPROXY_STAT_BOUND_DEVICE, TPROXY_STAT_STRAYED,
		TPROXY_STAT_NEGATIVE_CACHE,  TPROXY_STAT_NO_STORAGE,   TPROXY_STAT_OVER_SHARE,
		TPROXY_STAT_MAP_FULL,	     TPROXY_STAT_REDIRECTED,
	};
	struct facts facts = {
		.dst_class = ENDPOINT_LOOPBACK,
		.exempt = true,
		.repair = true,
		.rule_action = TPROXY_RULE_DIRECT,
		.unsupported = true,
		.bound_device = true,
		.now_ns = NOW_NS,
		.alive_ns = 1,
		.dst_is_relay = true,
		.relay_strayed_ns = NOW_NS,
		.user_strayed_ns = NOW_NS,
		.failed_until_ns = NOW_NS + 1,
		.failed_error = ETIMEDOUT,
		.connections = { [TPROXY_SHARE_USER] = TPROXY_CONNECTIONS_MAX },
	};
	size_t i = 0;

#define NEXT(fix)                                                                                  \
	do {                                                                                       \
		assert_int_equal(decide(&facts, &fail_open, STAGE_ROOM).reason, order[i++]);       \
		fix;                                                                               \
	} while (0)
	NEXT(facts.dst_class = ENDPOINT_ORDINARY);
	NEXT(facts.exempt = false);
	NEXT(facts.dst_port = 443);
	NEXT(facts.repair = false);
	NEXT(facts.rule_action = TPROXY_RULE_REDIRECT);
	NEXT(facts.unsupported = false);
	NEXT(facts.has_relay = true);
	NEXT(facts.has_listener = true);
	NEXT(facts.alive_ns = 0);
	NEXT(facts.dst_is_relay = false);
	NEXT(facts.bound_device = false);
	NEXT(facts.user_strayed_ns = 0);
	NEXT(facts.failed_error = 0);
	NEXT(facts.has_storage = true);
	NEXT(facts.connections[TPROXY_SHARE_USER] = 0);
	NEXT(facts.has_room = true);
	NEXT(;);
#undef NEXT
	assert_int_equal(i, ARRAY_SIZE(order));
}

/* Most facts are those of a connection that is redirected, so that late questions are reached. */
static bool rarely(void)
{
	return random() % 8 == 0;
}

static struct facts random_facts(void)
{
	struct facts facts = good();
	enum tproxy_share share;

	if (rarely())
		facts.dst_class = (enum endpoint_class)(random() % 4);
	if (rarely())
		facts.dst_port = 0;
	facts.block_error = rarely() ? EACCES : 0;
	facts.exempt = rarely();
	facts.repair = rarely();
	facts.unsupported = rarely();
	facts.bound_device = rarely();
	if (rarely())
		facts.rule_action = (enum tproxy_rule_action)(random() % TPROXY_RULE_SKIP);
	facts.rule_default = random() % 2;
	facts.rule_error = facts.rule_action == TPROXY_RULE_REFUSE ? EACCES : 0;
	facts.rule_upstream = facts.rule_action == TPROXY_RULE_REDIRECT && random() % 2
				      ? 1 + (__u32)random() * 2
				      : 0;
	facts.has_relay = !rarely();
	facts.has_listener = !rarely();
	facts.dst_is_relay = rarely();
	facts.has_storage = !rarely();
	facts.has_room = !rarely();
	if (rarely())
		facts.alive_ns = (__u64)random() % 3 * (NOW_NS / 2);
	if (rarely()) {
		facts.relay_strayed_ns = NOW_NS - (__u64)(random() % 2) * TPROXY_STRAYED_NS;
		facts.user_strayed_ns = NOW_NS - (__u64)(random() % 2) * TPROXY_STRAYED_NS;
	}
	if (rarely()) {
		facts.failed_until_ns = NOW_NS + (__u64)(random() % 2);
		facts.failed_error = (__u32)(ETIMEDOUT + random() % 2);
	}
	for (share = 0; share < _TPROXY_SHARE_MAX; share++) {
		if (rarely())
			facts.connections[share] = share_limit(share) - random() % 2;
	}
	return facts;
}

/* More facts change no verdict, and each reason of connect is reached. */
static void test_stages(void **state)
{
	bool reached[_TPROXY_STAT_MAX] = {};
	struct tproxy_policy policy = {};
	enum tproxy_stat stat;
	enum stage known;
	int i;

	srandom(1); /* any seed reaches all of them in this many rounds */
	for (i = 0; i < ROUNDS; i++) {
		struct facts facts = random_facts();
		struct decision all, d;
		bool more = true;

		policy.flags = (__u32)(random() % 8);
		facts.named_only = is_named_only(&facts, &policy);
		all = decide(&facts, &policy, STAGE_ROOM);
		assert_int_not_equal(all.verdict, VERDICT_MORE);
		reached[all.reason] = true;
		assert_int_equal(all.upstream,
				 all.verdict == VERDICT_REDIRECT ? facts.rule_upstream : 0);
		for (known = STAGE_DESTINATION; known <= STAGE_ROOM; known++) {
			d = decide(&facts, &policy, known);
			if (more && d.verdict == VERDICT_MORE)
				continue;
			more = false;
			assert_int_equal(d.verdict, all.verdict);
			assert_int_equal(d.reason, all.reason);
			assert_int_equal(d.error, all.error);
			assert_int_equal(d.fail_closed, all.fail_closed);
			assert_int_equal(d.upstream, all.upstream);
		}
	}
	for (stat = 0; stat < _TPROXY_STAT_MAX; stat++) {
		/* Counted beside a reason, by sockops, by the sweep, for UDP and for reports. */
		bool other = stat == TPROXY_STAT_REFUSED || stat == TPROXY_STAT_PUBLISH_FAILED ||
			     stat == TPROXY_STAT_ABORTED || stat == TPROXY_STAT_STALE ||
			     stat == TPROXY_STAT_UNANSWERED || stat == TPROXY_STAT_RULE_UDP ||
			     stat == TPROXY_STAT_OBSERVE_FULL || stat == TPROXY_STAT_EVENTS_LOST ||
			     stat >= TPROXY_STAT_HONEST_PENDING;

		assert_int_equal(reached[stat], !other);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redirect),       cmocka_unit_test(test_direct),
		cmocka_unit_test(test_block),	       cmocka_unit_test(test_policy),
		cmocka_unit_test(test_strayed),	       cmocka_unit_test(test_negative_cache),
		cmocka_unit_test(test_rules),	       cmocka_unit_test(test_rule_error),
		cmocka_unit_test(test_rules_loopback), cmocka_unit_test(test_order),
		cmocka_unit_test(test_stages),	       cmocka_unit_test(test_upstream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
