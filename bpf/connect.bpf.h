/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connect4 and connect6, which differ only in how they read and write the address. connect_run():
 *
 *   1. Drops the record of an earlier connect() of this socket, and undoes client_abort().
 *   2. Gathers facts, in the stages of decide.bpf.h, and asks decide_stage() after each. The gather
 *      functions store facts in struct facts, and other data of a redirect in struct attempt.
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
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "blockops.bpf.h"
#include "decide.bpf.h"
#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "observe.bpf.h"
#include "policy.bpf.h"
#include "port.bpf.h"
#include "record.bpf.h"
#include "rulefacts.bpf.h"
#include "share.bpf.h"
#include "stats.bpf.h"
#include "sweep.bpf.h"
#include "target.bpf.h"
#include "tproxy_abi.h"
#include "verifier.bpf.h"
#include "watch.bpf.h"

/* Return values of cgroup connect programs. */
enum {
	CONNECT_REJECT = 0,
	CONNECT_PROCEED = 1,
};

/*
 * One connect() under way. The members that gather_relay() and gather_shares() set are not
 * initialised before, because paths that end earlier would pay for it.
 */
struct attempt {
	struct bpf_sock_addr *ctx;
	struct bpf_sock *sk;
	const struct tproxy_policy *policy; /* in the map: the loader may change it meanwhile */
	const struct tproxy_endpoint *dst;
	struct facts facts;
	enum tproxy_stat reason;
	const struct tproxy_interest *interest;	     /* in the map */
	const struct tproxy_endpoint *redirected_to; /* the relay's address in the record */
	__u64 rule; /* rule_word(), set by gather_rules() with rule_action */
	/* set by gather_relay() */
	__u64 netns_cookie;
	struct tproxy_relay *relay;
	const struct tproxy_listen *listen;
	struct target target;
	/* set by gather_shares(); NULL without storage */
	struct client *client;
};

/*
 * Returns counter, enum tproxy_rule_flags and upstream of a rule in one word. Each would take 8
 * bytes of stack, and Linux 6.1 has room for one of them only. A counter has 16 bits.
 */
static __always_inline __u64 rule_word(__u32 counter, __u32 flags, __u32 upstream)
{
	return (__u64)upstream << 32 | flags << 30 | counter;
}

static __always_inline __u32 rule_word_counter(__u64 word)
{
	return (__u16)word;
}

/* Returns the flags as enum tproxy_conn_flags has them. */
static __always_inline __u32 rule_word_conn_flags(__u64 word)
{
	_Static_assert(TPROXY_CONN_HONEST == TPROXY_RULE_HONEST << 3, "see below");
	_Static_assert(TPROXY_CONN_EAGER == TPROXY_RULE_EAGER << 3, "see below");
	return ((__u32)word >> 30) << 3;
}

static __always_inline __u32 rule_word_upstream(__u64 word)
{
	return word >> 32;
}

/* Of each fact that many paths differ in: without this the verifier takes twice as long. */
static __always_inline __u64 forget(const struct attempt *a, __u64 number)
{
	return verifier_forget(number, a->policy->seed);
}

static __always_inline __u16 option_of(struct bpf_sock_addr *ctx, int level, int name)
{
	int value = 0;

	bpf_getsockopt(ctx, level, name, &value, sizeof(value));
	return (__u16)value;
}

/*
 * Records the client's socket options that a server would notice, so that the relay can set them on
 * its upstream socket. The keepalive times are read only if SO_KEEPALIVE is set.
 */
static __always_inline void note_options(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					 struct tproxy_conn *conn)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	conn->mark = sk->mark;
	if (!tp)
		return;
	conn->user_timeout_ms = tp->inet_conn.icsk_user_timeout;
	if (!(tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & (1UL << SOCK_KEEPOPEN)))
		return;
	conn->keep_alive = 1;
	conn->keep_idle_s = option_of(ctx, SOL_TCP, TCP_KEEPIDLE);
	conn->keep_intvl_s = option_of(ctx, SOL_TCP, TCP_KEEPINTVL);
	conn->keep_probes = (__u8)option_of(ctx, SOL_TCP, TCP_KEEPCNT);
}

/*
 * True for a socket that lo cannot carry, or whose meaning a relay would change: a peer
 * authenticated by TCP_MD5SIG, TCP-AO or its distance (IP_MINTTL, IPV6_MINHOPCOUNT); a source
 * address that replies may not come back to (IP_TRANSPARENT, IP_FREEBIND); a source route.
 */
static __always_inline bool is_unsupported(const struct bpf_sock *sk, struct tcp_sock *tp)
{
	struct inet_sock *inet = &tp->inet_conn.icsk_inet;
	const struct inet_sock___old *old = (const void *)inet;
	const struct ip_options_rcu *options = inet->inet_opt;
	bool foreign;

	if (has_keys(tp) || (options && options->opt.srr) || inet->min_ttl ||
	    (inet->pinet6 && inet->pinet6->min_hopcount))
		return true;
	if (!(sk->src_ip4 | sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3]))
		return false;
	if (bpf_core_field_exists(inet->inet_flags))
		foreign = inet->inet_flags &
			  (1UL << INET_FLAGS_TRANSPARENT | 1UL << INET_FLAGS_FREEBIND);
	else
		foreign = BPF_CORE_READ_BITFIELD(old, transparent) ||
			  BPF_CORE_READ_BITFIELD(old, freebind);
	return foreign;
}

/*
 * True if map_socks has room for one more entry. The entry itself is inserted at the SYN, when a
 * hook exists that will delete it. The test comes here because the policy decides about a full map.
 */
static __always_inline bool has_room(const struct client *client)
{
	if (bpf_map_update_elem(&map_socks, &client->conn.cookie, &client->conn, BPF_ANY))
		return false;
	bpf_map_delete_elem(&map_socks, &client->conn.cookie);
	return true;
}

/*
 * Records the destination in the socket's storage. complete_record() adds the relay's address and
 * sets client->recorded.
 */
static __always_inline void record(struct attempt *a, struct client *client)
{
	struct tproxy_conn *conn = &client->conn;
	const __u64 seed = a->policy->seed;
	const __u64 ids = bpf_get_current_uid_gid();

	__builtin_memset(conn, 0, sizeof(*conn));
	conn->started_ns = bpf_ktime_get_ns();
	conn->netns_cookie = a->netns_cookie;
	conn->cookie = bpf_get_socket_cookie(a->ctx);
	conn->cgroup_id = bpf_get_current_cgroup_id();
	conn->pid = bpf_get_current_pid_tgid() >> 32;
	conn->uid = (__u32)ids;
	conn->gid = ids >> 32;
	conn->dst = *a->dst;
	conn->rule_counter = rule_word_counter(a->rule);
	conn->upstream = rule_word_upstream(a->rule);
	conn->flags = rule_word_conn_flags(a->rule);
	bpf_get_current_comm(conn->comm, sizeof(conn->comm));
	note_options(a->ctx, a->sk, conn);
	conn->shares[TPROXY_SHARE_USER] = share_index(seed, TPROXY_SHARE_USER, conn->uid);
	conn->shares[TPROXY_SHARE_CGROUP] = share_index(seed, TPROXY_SHARE_CGROUP, conn->cgroup_id);
	conn->shares[TPROXY_SHARE_SLICE] = share_index(
		seed, TPROXY_SHARE_SLICE, bpf_get_current_ancestor_cgroup_id(SLICE_LEVEL));
}

static __always_inline void gather_block(struct attempt *a)
{
	if (a->facts.dst_class != ENDPOINT_LOOPBACK && is_blocking())
		a->facts.block_error = (__u32)block_connect(a->dst);
}

static __always_inline void gather_caller(struct attempt *a)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, a->sk, NULL, 0);

	a->facts.exempt =
		(mark && mark->flags & TPROXY_MARK_UPSTREAM) || in_relay_cgroup(a->policy);
	if (mark && mark->flags & TPROXY_MARK_VIA && !(a->policy->flags & TPROXY_ADVISES))
		a->rule = rule_word(TPROXY_NO_RULE, 0, mark->upstream);
}

static __always_inline void gather_socket(struct attempt *a)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(a->sk);

	a->facts.bound_device = forget(a, a->sk->bound_dev_if != 0) & 1;
	if (!tp)
		return;
	a->facts.repair = BPF_CORE_READ_BITFIELD(tp, repair);
	a->facts.unsupported = forget(a, is_unsupported(a->sk, tp)) & 1;
}

/* Sets the rule. The upstream that a command's own rules name goes before that of this rule. */
static __always_inline void set_rule(struct attempt *a, __u32 counter, __u32 flags, __u32 upstream)
{
	const __u32 advised = rule_word_upstream(a->rule);

	a->rule = rule_word(counter, flags, advised ? advised : upstream);
}

/* Finds the rule that applies, and counts it. */
static __always_inline void gather_rules(struct attempt *a)
{
	const struct tproxy_rules *rules = get_rules();
	const struct tproxy_rule *rule;
	__u32 row = RULES_NO_ROW;
	__u64 cgroups = 0;

	a->facts.rule_default = true;
	a->facts.named_only = is_named_only(&a->facts, a->policy);
	if (!rules)
		return;
	if (rules->n_rows) {
		if (rules->needs & TPROXY_NEEDS_CGROUP)
			cgroups = rules_process_bits(rules);
		row = rules_find(rules, a->dst, IPPROTO_TCP, a->facts.named_only, cgroups);
		barrier_var(row); /* clang knows the bound, the verifier does not */
	}
	if (row >= TPROXY_RULES_MAX) {
		a->facts.rule_action = rules->default_action;
		a->facts.rule_error = rules->default_error;
		set_rule(a, rules->default_counter, rules->default_flags, rules->default_upstream);
		if (!a->facts.named_only)
			rule_count(rules->default_counter);
		return;
	}
	rule = &rules->rows[row];
	a->facts.rule_default = false;
	a->facts.rule_action = rule->action;
	a->facts.rule_error = rule->error;
	set_rule(a, rule->counter, rule->flags, rule->upstream);
	rule_count(rule->counter);
}

/*
 * Leaves the upstream of the rule to connect of the load, which decides next. Without one, what an
 * earlier connect() of this socket left is taken back.
 */
static __always_inline void advise(struct attempt *a)
{
	const bool applies = !(a->facts.rule_default && a->facts.named_only);
	struct tproxy_mark *mark =
		bpf_sk_storage_get(&map_marks, a->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (!mark)
		return;
	mark->upstream = applies ? rule_word_upstream(a->rule) : 0;
	mark->flags |= TPROXY_MARK_VIA;
}

static __always_inline void gather_relay(struct attempt *a)
{
	__u64 netns_cookie = bpf_get_netns_cookie(a->ctx);
	bool is4 = forget(a, endpoint_is_mapped4(a->dst)) & 1;

	a->netns_cookie = netns_cookie;
	a->listen = NULL;
	a->target = (struct target){};
	a->facts.now_ns = bpf_ktime_get_ns();
	a->relay = bpf_map_lookup_elem(&map_config, &netns_cookie);
	if (!a->relay)
		return;
	a->listen = &a->relay->listen[is4 ? TPROXY_INET : TPROXY_INET6];
	a->target.loads = port_loads_index(a->netns_cookie, a->listen);
	a->facts.has_relay = take_port(a->listen, is4, &a->target);
	a->facts.alive_ns = a->relay->alive_ns;
	a->facts.relay_strayed_ns = a->relay->strayed_ns;
}

/* Tells the relay that a connection met no listener, or a stalled relay. */
static __always_inline void note_unreachable(struct attempt *a)
{
	__sync_fetch_and_add(&a->relay->unreachable, 1);
}

/*
 * Looks for the listener of the chosen port. A destroyed listener has no connections left, so every
 * client would pick its port: the next one is tried.
 */
static __always_inline void gather_listener(struct attempt *a)
{
	struct target *target = &a->target;
	__u64 unused;

	if (a->sk->src_port)
		avoid_taken(a->ctx, a->listen, target);
	a->facts.has_listener = is_our_listener(a->ctx, &target->relay, &target->listener);
	if (!a->facts.has_listener) {
		note_unreachable(a);
		next_port(a->listen, target);
		if (a->sk->src_port)
			avoid_taken(a->ctx, a->listen, target);
		a->facts.has_listener = is_our_listener(a->ctx, &target->relay, &target->listener);
	}
	a->facts.dst_is_relay =
		port_is_relays(a->listen, a->dst) && is_our_listener(a->ctx, a->dst, &unused);
}

static __always_inline void gather_history(struct attempt *a)
{
	struct tproxy_failed_key failed_key = { .netns_cookie = a->netns_cookie,
						.dst = *a->dst,
						.upstream = rule_word_upstream(a->rule) };
	struct tproxy_strayed_key strayed_key = { .netns_cookie = a->netns_cookie };
	const struct tproxy_failed *failed;
	const __u64 *strayed_ns;

	if (is_recent_stray(a->facts.relay_strayed_ns, a->facts.now_ns)) {
		strayed_key.uid = (__u32)bpf_get_current_uid_gid();
		strayed_ns = bpf_map_lookup_elem(&map_strayed, &strayed_key);
		if (strayed_ns)
			a->facts.user_strayed_ns = *strayed_ns;
	}
	failed = bpf_map_lookup_elem(&map_failed, &failed_key);
	if (!failed)
		return;
	a->facts.failed_until_ns = failed->expires_ns;
	a->facts.failed_error = failed->error;
}

static __always_inline void gather_shares(struct attempt *a)
{
	a->client = bpf_sk_storage_get(&map_clients, a->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!a->client)
		return;
	a->facts.has_storage = true;
	record(a, a->client);
	shares_read(a->client->conn.shares, a->facts.connections);
}

static __always_inline void gather_room(struct attempt *a)
{
	a->facts.has_room = a->client && has_room(a->client);
}

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
	const struct decision decision = decide_by(a->reason, &a->facts, a->policy);

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
		client_forget(client);
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
