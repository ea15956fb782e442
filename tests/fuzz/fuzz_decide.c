// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf/decide.bpf.h decides any facts under any policy, with these properties: more facts change no
 * verdict; a redirect has every precondition; each verdict agrees with its reason and the policy.
 * Input: struct input.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdbool.h>

#include "decide.bpf.h"

struct input {
	uint8_t flags; /* of the policy */
	uint8_t dst_class;
	uint16_t dst_port;
	uint8_t rule_action, rule_error;
	uint16_t bits; /* the boolean facts */
	uint16_t failed_error;
	uint64_t now_ns, alive_ns, relay_strayed_ns, user_strayed_ns, failed_until_ns;
	int64_t connections[_TPROXY_SHARE_MAX];
};

static void facts_from(const struct input *in, struct facts *facts)
{
	*facts = (struct facts){
		.dst_class = in->dst_class % (ENDPOINT_LINK_LOCAL + 1),
		.dst_port = in->dst_port,
		.block_error = in->bits & 1 << 10 ? EACCES : 0,
		.exempt = in->bits & 1 << 0,
		.repair = in->bits & 1 << 1,
		.unsupported = in->bits & 1 << 2,
		.bound_device = in->bits & 1 << 3,
		/* Inverted, so that bits of 0 are those of a redirect. */
		.has_relay = !(in->bits & 1 << 4),
		.has_listener = !(in->bits & 1 << 5),
		.dst_is_relay = in->bits & 1 << 6,
		.has_storage = !(in->bits & 1 << 7),
		.has_room = !(in->bits & 1 << 8),
		.rule_default = in->bits & 1 << 9,
		.rule_action = in->rule_action % TPROXY_RULE_SKIP,
		.rule_error = 1 + in->rule_error % 133U,
		.rule_upstream = in->rule_error * 0x01010101U,
		.now_ns = in->now_ns,
		.alive_ns = in->alive_ns,
		.relay_strayed_ns = in->relay_strayed_ns,
		.user_strayed_ns = in->user_strayed_ns,
		.failed_until_ns = in->failed_until_ns,
		.failed_error = in->failed_error,
	};
	memcpy(facts->connections, in->connections, sizeof(facts->connections));
}

static bool is_bypass(enum tproxy_stat reason)
{
	return reason == TPROXY_STAT_BYPASS_RELAY || reason == TPROXY_STAT_BYPASS_LOOPBACK ||
	       reason == TPROXY_STAT_BYPASS_MULTICAST || reason == TPROXY_STAT_BYPASS_LISTENER ||
	       reason == TPROXY_STAT_BYPASS_REPAIR || reason == TPROXY_STAT_BYPASS_PORT0;
}

static bool is_by_rule(enum tproxy_stat reason)
{
	return reason == TPROXY_STAT_RULE_DIRECT || reason == TPROXY_STAT_RULE_OBSERVE ||
	       reason == TPROXY_STAT_RULE_REFUSED;
}

/* The verdict is that of the action, and the policy has no part in it. */
static void check_rule(const struct decision *d, const struct facts *facts)
{
	static const enum verdict verdicts[] = {
		[TPROXY_RULE_DIRECT] = VERDICT_DIRECT,
		[TPROXY_RULE_OBSERVE] = VERDICT_OBSERVE,
		[TPROXY_RULE_REFUSE] = VERDICT_REFUSE,
	};

	require(facts->rule_action != TPROXY_RULE_REDIRECT);
	require(d->verdict == verdicts[facts->rule_action] && !d->fail_closed);
	require(d->error == (d->verdict == VERDICT_REFUSE ? (int)facts->rule_error : 0));
	require(!facts->exempt && !facts->repair && facts->dst_port);
	require(!facts->rule_default || !facts->named_only);
}

/* I2 and I8: nothing is redirected by or to the relay itself, or to a relay that may be gone. */
static void check_redirect(const struct facts *facts, const struct tproxy_policy *policy)
{
	enum tproxy_share share;

	require(facts->dst_class == ENDPOINT_ORDINARY ||
		(facts->dst_class == ENDPOINT_LOOPBACK &&
		 (policy->flags & TPROXY_INCLUDE_LOOPBACK ||
		  (policy->flags & TPROXY_RULES_LOOPBACK && !facts->rule_default))));
	require(facts->rule_action == TPROXY_RULE_REDIRECT);
	require(facts->dst_port);
	require(!facts->exempt && !facts->dst_is_relay);
	require(!facts->block_error || facts->dst_class == ENDPOINT_LOOPBACK);
	require(!facts->repair && !facts->unsupported && !facts->bound_device);
	require(facts->has_relay && facts->has_listener);
	require(!facts->alive_ns || facts->now_ns <= facts->alive_ns + TPROXY_STALE_NS);
	require(facts->has_storage && facts->has_room);
	for (share = 0; share < _TPROXY_SHARE_MAX; share++)
		require(facts->connections[share] < TPROXY_CONNECTIONS_MAX);
}

static void check(const struct decision *d, const struct facts *facts,
		  const struct tproxy_policy *policy)
{
	bool closed = policy->flags & TPROXY_FAIL_CLOSED;

	require(d->verdict != VERDICT_MORE && d->reason < _TPROXY_STAT_MAX);
	require((d->verdict == VERDICT_REDIRECT) == (d->reason == TPROXY_STAT_REDIRECTED));
	require(d->upstream == (d->verdict == VERDICT_REDIRECT ? facts->rule_upstream : 0));
	require((d->verdict == VERDICT_REFUSE) == (d->error != 0));
	require((d->verdict == VERDICT_OBSERVE) == (d->reason == TPROXY_STAT_RULE_OBSERVE));
	if (d->verdict == VERDICT_REDIRECT) {
		check_redirect(facts, policy);
	} else if (is_by_rule(d->reason)) {
		check_rule(d, facts);
	} else if (d->reason == TPROXY_STAT_BLOCKED) {
		require(d->verdict == VERDICT_REFUSE && !d->fail_closed);
		require(d->error == (int)facts->block_error);
		require(facts->dst_class != ENDPOINT_LOOPBACK);
	} else if (d->reason == TPROXY_STAT_NEGATIVE_CACHE) {
		require(d->verdict == VERDICT_REFUSE && !d->fail_closed);
		require(d->error == (int)facts->failed_error);
		require(d->error == ECONNREFUSED || d->error == ENETUNREACH ||
			d->error == EHOSTUNREACH || d->error == ETIMEDOUT || d->error == EACCES);
	} else if (is_bypass(d->reason)) {
		require(d->verdict == VERDICT_DIRECT && !d->fail_closed);
	} else {
		require((d->verdict == VERDICT_REFUSE) == closed && d->fail_closed == closed);
		require(!closed || d->error == ECONNREFUSED);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tproxy_policy policy = {};
	struct decision all, d;
	struct input in = {};
	struct facts facts;
	bool more = true;
	enum stage known;

	memcpy(&in, data, size < sizeof(in) ? size : sizeof(in));
	policy.flags =
		in.flags & (TPROXY_FAIL_CLOSED | TPROXY_INCLUDE_LOOPBACK | TPROXY_RULES_LOOPBACK);
	facts_from(&in, &facts);
	facts.named_only = is_named_only(&facts, &policy);
	all = decide(&facts, &policy, STAGE_ROOM);
	check(&all, &facts, &policy);
	for (known = STAGE_DESTINATION; known <= STAGE_ROOM; known++) {
		d = decide(&facts, &policy, known);
		if (more && d.verdict == VERDICT_MORE)
			continue;
		more = false;
		require(d.verdict == all.verdict && d.reason == all.reason);
		require(d.error == all.error && d.fail_closed == all.fail_closed);
	}
	return 0;
}
