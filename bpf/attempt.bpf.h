/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One connect() under way, and how its facts are gathered. The gather functions store what
 * decide.bpf.h decides by in struct facts, and other data of a redirect in struct attempt.
 * connect.bpf.h calls them in the order of the stages, each only if those before have not decided.
 *
 * gather_shares() records the destination in the socket's storage. That is before the last stage,
 * the only one that redirects.
 */
#ifndef TPROXY_ATTEMPT_BPF_H
#define TPROXY_ATTEMPT_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "blockops.bpf.h"
#include "decide.bpf.h"
#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "policy.bpf.h"
#include "port.bpf.h"
#include "record.bpf.h"
#include "rulefacts.bpf.h"
#include "share.bpf.h"
#include "target.bpf.h"
#include "tproxy_abi.h"
#include "verifier.bpf.h"

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

/*
 * Hides the value of a fact from the verifier, see verifier_forget(). For facts in which many paths
 * differ: otherwise the verifier takes twice as long.
 */
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
	if (a->facts.exempt)
		return;
	if (mark && mark->flags & TPROXY_MARK_VIA && !(a->policy->flags & TPROXY_ADVISES))
		a->rule = rule_word(TPROXY_NO_RULE, 0, mark->upstream);
	a->rule = forget(a, a->rule);
}

static __always_inline void gather_socket(struct attempt *a)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(a->sk);

	a->facts.bound_device = verifier_bool(a->sk->bound_dev_if);
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
	a->facts.named_only = forget(a, is_named_only(&a->facts, a->policy)) & 1;
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
 * Notes the upstream of the rule in the mark, for connect of the load, which decides next. Without
 * an upstream, clears what an earlier connect() of this socket has noted.
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
	__u64 listener = 0;

	if (a->sk->src_port)
		avoid_taken(a->ctx, a->listen, target);
	a->facts.has_listener = is_our_listener(a->ctx, &target->relay, &target->listener);
	if (!a->facts.has_listener) {
		note_unreachable(a);
		next_port(a->listen, target);
		if (a->sk->src_port)
			avoid_taken(a->ctx, a->listen, target);
		a->facts.has_listener =
			is_our_listener_at(a->ctx, a->listen, target->port_index, &listener);
		target->listener = listener;
	}
	a->facts.dst_is_relay = endpoint_has_address(a->dst, a->listen->addr) &&
				is_relay_itself(a->ctx, a->listen, a->dst);
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

#endif
