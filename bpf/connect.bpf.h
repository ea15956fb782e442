/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connect4 and connect6, which differ only in how they read and write the address. connect_run():
 *
 *   1. Drops the record of an earlier connect() of this socket, and undoes client_abort().
 *   2. Gathers facts (attempt.bpf.h), in the stages of decide.bpf.h, and asks decide_stage() after
 *      each.
 *   3. Completes the record of a redirect, counts the decision, sets the result of connect().
 *
 * The destination is recorded in the socket's storage while facts are gathered, so before
 * VERDICT_REDIRECT is possible. Only then does the caller write the relay's address into the
 * context. The maps of connections stay as they are, apart from a test for room: connect() may
 * still fail before its SYN, so sockops inserts the entries.
 */
#ifndef TPROXY_CONNECT_BPF_H
#define TPROXY_CONNECT_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "attempt.bpf.h"
#include "blockops.bpf.h"
#include "decide.bpf.h"
#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "interest.bpf.h"
#include "maps.bpf.h"
#include "observe.bpf.h"
#include "policy.bpf.h"
#include "record.bpf.h"
#include "stats.bpf.h"
#include "sweep.bpf.h"
#include "tproxy_abi.h"
#include "watch.bpf.h"

/* Return values of cgroup connect programs. */
enum {
	CONNECT_REJECT = 0,
	CONNECT_PROCEED = 1,
};

static __always_inline bool is_decided(struct attempt *a, enum stage stage)
{
	a->reason = decide_stage(&a->facts, a->policy, stage);
	return a->reason != REASON_NONE;
}

/*
 * Starts a part of the sweep. A global function, see rules_find(): inlined, it was a quarter of
 * what the verifier walks through for connect.
 */
__attribute__((noinline)) int connect_sweep(struct bpf_sock_addr *ctx, __u64 netns_cookie)
{
	sweep(ctx, netns_cookie, /* at_once= */ false);
	return 0;
}

/* Completes the record. */
static __always_inline void complete_record(struct attempt *a)
{
	struct client *client = a->client;

	if (!client) /* cannot happen, but the verifier demands the test */
		return;
	client->conn.port_index = a->target.port_index;
	client->conn.loads = a->target.loads;
	client->listener = a->target.listener;
	client->conn.relay = a->target.relay;
	client->recorded = 1;
	a->redirected_to = &client->conn.relay;
}

/* The stages of a connection that should be redirected, each with the effects of its decisions. */
static __always_inline void try_redirect(struct attempt *a)
{
	gather_relay(a);
	if (is_decided(a, STAGE_RELAY))
		return;
	gather_listener(a);
	if (is_decided(a, STAGE_LISTENER)) {
		if (a->reason == TPROXY_STAT_STALLED)
			note_unreachable(a);
		return;
	}
	gather_history(a);
	if (is_decided(a, STAGE_HISTORY))
		return;
	gather_shares(a);
	if (!is_decided(a, STAGE_SHARES)) {
		gather_room(a);
		is_decided(a, STAGE_ROOM);
	}
	if (a->reason == TPROXY_STAT_REDIRECTED)
		complete_record(a);
	/* Sweep for later connects, because stale entries may take up the room. */
	if (a->reason == TPROXY_STAT_OVER_SHARE || a->reason == TPROXY_STAT_MAP_FULL)
		connect_sweep(a->ctx, a->netns_cookie);
}

/* The first questions, and the last ones for every connect() to loopback. */
static __always_inline bool is_decided_by_destination(struct attempt *a)
{
	a->facts = (struct facts){
		.dst_class = endpoint_class(a->dst),
		.dst_port = a->dst->port,
	};
	return is_decided(a, STAGE_DESTINATION);
}

/* Gathers further facts until they decide. */
static __always_inline void investigate(struct attempt *a)
{
	a->facts.dst_class = (enum endpoint_class)forget(a, a->facts.dst_class);
	gather_block(a);
	if (is_decided(a, STAGE_BLOCK))
		return;
	gather_caller(a);
	if (is_decided(a, STAGE_CALLER))
		return;
	gather_socket(a);
	if (is_decided(a, STAGE_SOCKET))
		return;
	gather_rules(a);
	if (a->policy->flags & TPROXY_ADVISES)
		advise(a);
	if (is_decided(a, STAGE_RULES))
		return;
	try_redirect(a);
}

/* True if the caller asks whether it is in scope. */
static __always_inline bool is_probe(const struct attempt *a)
{
	return a->reason == TPROXY_STAT_BYPASS_MULTICAST && a->dst->port == TPROXY_PROBE_PORT &&
	       endpoint_is_mapped4(a->dst) && endpoint_get4(a->dst) == 0xffffffff;
}

/* Tells the watchers what was decided. */
static __always_inline void tell_watchers(const struct attempt *a, const struct decision *decision)
{
	const __u32 error = decision->verdict == VERDICT_REFUSE ? (__u32)decision->error : 0;
	enum tproxy_verdict verdict = TPROXY_VERDICT_DIRECT;

	/* The second half of a connection that was reported. */
	if (decision->reason == TPROXY_STAT_BYPASS_RELAY)
		return;
	if (decision->verdict == VERDICT_REDIRECT)
		verdict = TPROXY_VERDICT_REDIRECTED;
	else if (decision->verdict == VERDICT_OBSERVE)
		verdict = TPROXY_VERDICT_OBSERVED;
	else if (decision->verdict == VERDICT_REFUSE)
		verdict = TPROXY_VERDICT_REFUSED;
	watch_connect(bpf_get_socket_cookie(a->ctx), bpf_get_netns_cookie(a->ctx), a->dst,
		      rule_word_counter(a->rule),
		      watch_outcome(verdict, (__u8)decision->reason, error));
}

/* Notes the connection. The test comes before the call that gives the socket its cookie. */
static __always_inline void observe(const struct attempt *a)
{
	struct bpf_sock *sk = a->ctx->sk;
	const bool may_have_entry = sk && !is_unknown(sk);

	observe_begin(bpf_get_socket_cookie(a->ctx), bpf_get_netns_cookie(a->ctx), a->dst,
		      rule_word_counter(a->rule), may_have_entry);
}

/* Counts the decision and sets the result of connect(). Returns the program's return value. */
static __always_inline int conclude(const struct attempt *a)
{
	struct decision decision = decide_by(a->reason, &a->facts, a->policy);

	/* The verifier would walk through the rest once for each reason. */
	decision.reason = (enum tproxy_stat)forget(a, decision.reason);
	decision.verdict = (enum verdict)forget(a, decision.verdict);
	decision.error = (int)forget(a, (__u32)decision.error);
	decision.fail_closed = forget(a, decision.fail_closed) & 1;
	if (is_probe(a)) {
		bpf_set_retval(-TPROXY_PROBE_ERRNO);
		return CONNECT_REJECT;
	}
	count(decision.reason);
	if (a->interest->watching)
		tell_watchers(a, &decision);
	if (decision.verdict == VERDICT_OBSERVE)
		observe(a);
	if (decision.verdict != VERDICT_REFUSE)
		return CONNECT_PROCEED;
	if (decision.fail_closed)
		count(TPROXY_STAT_REFUSED);
	if (decision.reason == TPROXY_STAT_BLOCKED)
		block_report(bpf_get_socket_cookie(a->ctx), bpf_get_netns_cookie(a->ctx), a->dst,
			     (__u32)decision.error);
	/* Since 5.18. A plain rejection is EPERM. */
	bpf_set_retval(-decision.error);
	return CONNECT_REJECT;
}

/*
 * Drops the record of an earlier connect() of this socket. A global function, see rules_find(): few
 * sockets connect again.
 */
__attribute__((noinline)) int connect_forget(struct client *client)
{
	if (client)
		client_forget(client);
	return 0;
}

/*
 * True if this connect() was redirected already. While a loader replaces a cgroup by one of its
 * ancestors, or the reverse, the program may be attached to both. It then runs twice for each
 * connect(), the second time with the relay's address.
 */
static __always_inline bool is_redirected(const struct client *client,
					  const struct tproxy_endpoint *dst)
{
	return client->recorded && !client->published && endpoint_equal(&client->conn.relay, dst);
}

/*
 * Undoes client_abort(). The kernel lets only processes with CAP_NET_RAW unbind a socket, and the
 * process that closed the connection may have lacked it: this caller is another chance.
 */
static __always_inline void unbind(struct bpf_sock_addr *ctx, struct client *client)
{
	int value = 0;

	if (!bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &value, sizeof(value)))
		client->nowhere = 0;
}

/*
 * Runs for a TCP connect() to dst. Returns the relay's address, by which the caller replaces dst,
 * or NULL. *ret_value is the program's return value.
 */
static __always_inline const struct tproxy_endpoint *connect_run(struct bpf_sock_addr *ctx,
								 struct bpf_sock *sk,
								 const struct tproxy_endpoint *dst,
								 int *ret_value)
{
	const struct tproxy_policy *policy;
	struct client *client;
	struct attempt a;
	int refused;

	*ret_value = CONNECT_PROCEED;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client) {
		if (is_redirected(client, dst))
			return NULL;
		if (client->nowhere)
			unbind(ctx, client);
		/* The socket connects again, after a failure or AF_UNSPEC: drop the old record. */
		connect_forget(client);
	}
	a.interest = get_interest();
	if (!a.interest)
		return NULL;
	if (a.interest->observed_s && !is_unknown(sk))
		observe_again(bpf_get_socket_cookie(ctx), dst);
	policy = get_policy();
	if (!policy)
		return NULL;
	a.ctx = ctx;
	a.sk = sk;
	a.policy = policy;
	a.dst = dst;
	a.redirected_to = NULL;
	a.rule = rule_word(TPROXY_NO_RULE, 0, 0);
	if (!is_decided_by_destination(&a)) {
		/*
		 * A program that ran before has refused it: one of others, or that of an instance
		 * below, which `tproxyctl run --rules` makes. Programs of the cgroups below run
		 * first.
		 */
		refused = bpf_get_retval();
		if (refused < 0) {
			if (a.interest->watching)
				watch_connect(bpf_get_socket_cookie(ctx), bpf_get_netns_cookie(ctx),
					      dst, 0,
					      watch_outcome(TPROXY_VERDICT_REFUSED,
							    TPROXY_WATCH_BY_OTHER,
							    (__u32)-refused));
			return NULL;
		}
		investigate(&a);
	}
	*ret_value = conclude(&a);
	return a.redirected_to;
}

static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP && ctx->type == SOCK_STREAM;
}

#endif
