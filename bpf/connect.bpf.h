/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What becomes of a connect(): the steps of connect4 and connect6, which differ only in how the
 * address is read and written.
 */
#ifndef TPROXY_CONNECT_BPF_H
#define TPROXY_CONNECT_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"
#include "base.bpf.h"
#include "client.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "match.bpf.h"

/* Return values of cgroup connect programs, and what connect_decide() adds to them. */
enum {
	CONNECT_REJECT = 0,
	CONNECT_PROCEED = 1,
	CONNECT_REDIRECT,
};

/*
 * The one place for what happens to a connection that should be redirected and cannot be.
 * bpf_set_retval() gives the client ECONNREFUSED; without it a rejection is EPERM (since 5.18).
 */
static __always_inline int unredirected(const struct tproxy_policy *policy, enum tproxy_stat why)
{
	count(why);
	if (!(policy->flags & TPROXY_FAIL_CLOSED))
		return CONNECT_PROCEED;
	count(TPROXY_STAT_REFUSED);
	bpf_set_retval(-ECONNREFUSED);
	return CONNECT_REJECT;
}

/* Is the caller, or the socket that it connects with, a relay's? */
static __always_inline bool is_relay(struct bpf_sock *sk, const struct tproxy_policy *policy)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);

	return (mark && mark->flags & TPROXY_MARK_UPSTREAM) || in_relay_cgroup(policy);
}

/*
 * Does a marked listener, one that our sockops sees, get connections to this address? The mark
 * cannot be forged by whoever else binds the port, and it ends with the socket.
 */
static __always_inline bool is_our_listener(struct bpf_sock_addr *ctx,
					    const struct tproxy_endpoint *ep)
{
	const __u32 wanted = TPROXY_MARK_LISTENER | TPROXY_MARK_HOOKED;
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv6);
	struct tproxy_mark *mark;
	struct bpf_sock *sk;
	bool ours = false;

	if (endpoint_is_mapped4(ep)) {
		tuple.ipv4.daddr = endpoint_get4(ep);
		tuple.ipv4.dport = bpf_htons(ep->port);
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.daddr, ep->addr, sizeof(ep->addr));
		tuple.ipv6.dport = bpf_htons(ep->port);
	}
	sk = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	if (mark)
		ours = (mark->flags & wanted) == wanted;
	bpf_sk_release(sk);
	return ours;
}

/*
 * What a relay found out about this destination a moment ago: an errno, or 0. Only those that say
 * something of a destination: the map may hold anything.
 */
static __always_inline __u32 known_error(__u64 netns_cookie, const struct tproxy_endpoint *dst,
					 __u64 now_ns)
{
	struct tproxy_failed_key key = { .netns_cookie = netns_cookie, .dst = *dst };
	const struct tproxy_failed *failed = bpf_map_lookup_elem(&map_failed, &key);

	if (!failed || failed->expires_ns <= now_ns)
		return 0;
	switch (failed->error) {
	case ECONNREFUSED:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ETIMEDOUT:
		return failed->error;
	}
	return 0;
}

static __always_inline __u16 option_of(struct bpf_sock_addr *ctx, int level, int name)
{
	int value = 0;

	bpf_getsockopt(ctx, level, name, &value, sizeof(value));
	return (__u16)value;
}

/*
 * What the client asked of its socket that the server would notice and now cannot: for the relay to
 * ask the same of its own. The times of keepalive are asked for only where it is on.
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

/* Records the destination of a connect() under the socket's cookie. false: it is not recorded. */
static __always_inline bool record(struct bpf_sock_addr *ctx, struct bpf_sock *sk, __u64 cookie,
				   __u64 netns_cookie, const struct tproxy_endpoint *dst,
				   const struct tproxy_endpoint *relay, __u32 turn, __u64 now_ns)
{
	struct tproxy_conn conn = {
		.started_ns = now_ns,
		.netns_cookie = netns_cookie,
		.cgroup_id = bpf_get_current_cgroup_id(),
		.pid = bpf_get_current_pid_tgid() >> 32,
		.uid = (__u32)bpf_get_current_uid_gid(),
		.dst = *dst,
	};
	struct client *client;

	client = bpf_sk_storage_get(&map_clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!client)
		return false;
	bpf_get_current_comm(conn.comm, sizeof(conn.comm));
	note_options(ctx, sk, &conn);
	if (bpf_map_update_elem(&map_socks, &cookie, &conn, BPF_NOEXIST))
		return false;
	client->dst = *dst;
	client->turn = turn;
	client->tuple.dst = *relay;
	client->recorded = 1;
	return true;
}

/*
 * The listener whose turn it is. Two CPUs may take the same turn, which does not matter. false: the
 * relay does not serve this family, or its entry says so of addresses of the other one, which would
 * be read as something else.
 */
static __always_inline bool take_turn(struct tproxy_relay *relay,
				      const struct tproxy_listen *listen, bool is4,
				      struct tproxy_endpoint *ret_relay, __u32 *ret_turn)
{
	__u32 n = listen->n_ports, i = relay->turn;

	if (i >= n)
		i = 0;
	relay->turn = i + 1;
	barrier_var(i); /* or clang finds the next test unnecessary, which the verifier does not */
	if (n == 0 || i >= TPROXY_PORTS_MAX)
		return false;
	__builtin_memcpy(ret_relay->addr, listen->addr, sizeof(ret_relay->addr));
	ret_relay->port = listen->ports[i];
	ret_relay->reserved = 0;
	*ret_turn = i;
	return ret_relay->port && endpoint_is_mapped4(ret_relay) == is4;
}

/* Is it a port of the relay? Then dst may be the relay itself, by any local address. */
static __always_inline bool has_port(const struct tproxy_listen *listen, __u16 port)
{
	__u32 i;

	for (i = 0; i < TPROXY_PORTS_MAX && i < listen->n_ports; i++) {
		if (listen->ports[i] == port)
			return true;
	}
	return false;
}

/*
 * In scope, TCP, and not a relay's: to the relay with it, if everything that this needs is there.
 * *ret_relay is where that is.
 */
static __always_inline int redirect(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				    const struct tproxy_policy *policy, __u64 cookie,
				    const struct tproxy_endpoint *dst,
				    struct tproxy_endpoint *ret_relay)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx), now_ns = bpf_ktime_get_ns();
	bool is4 = endpoint_is_mapped4(dst);
	const struct tproxy_listen *listen;
	struct tproxy_relay *relay;
	__u32 error, turn;

	relay = bpf_map_lookup_elem(&map_config, &netns_cookie);
	if (!relay)
		return unredirected(policy, TPROXY_STAT_NO_RELAY);
	listen = &relay->listen[is4 ? TPROXY_INET : TPROXY_INET6];
	if (!take_turn(relay, listen, is4, ret_relay, &turn))
		return unredirected(policy, TPROXY_STAT_NO_RELAY);
	if (!is_our_listener(ctx, ret_relay)) {
		__sync_fetch_and_add(&relay->missed, 1);
		return unredirected(policy, TPROXY_STAT_NO_LISTENER);
	}
	if (relay->alive_ns && now_ns > relay->alive_ns + TPROXY_STALE_NS) {
		__sync_fetch_and_add(&relay->missed, 1);
		return unredirected(policy, TPROXY_STAT_STALLED);
	}
	/* To the relay itself: it finds no destination and resets. */
	if (has_port(listen, dst->port) && is_our_listener(ctx, dst)) {
		count(TPROXY_STAT_BYPASS_LISTENER);
		return CONNECT_PROCEED;
	}
	/* A socket bound to a device would send its SYN for a loopback address out there. */
	if (sk->bound_dev_if)
		return unredirected(policy, TPROXY_STAT_BOUND_DEVICE);

	error = known_error(netns_cookie, dst, now_ns);
	if (error) {
		count(TPROXY_STAT_KNOWN_FAILED);
		bpf_set_retval(-(int)error);
		return CONNECT_REJECT;
	}
	if (!record(ctx, sk, cookie, netns_cookie, dst, ret_relay, turn, now_ns))
		return unredirected(policy, TPROXY_STAT_MAP_FULL);
	count(TPROXY_STAT_REDIRECTED);
	return CONNECT_REDIRECT;
}

/*
 * The program may be attached to a cgroup and to one above it, while a loader changes the one for
 * the other: then it runs twice for a connect(), the second time on the address of the relay.
 */
static __always_inline bool is_redirected(const struct client *client,
					  const struct tproxy_endpoint *dst)
{
	return client->recorded && !client->published && endpoint_equal(&client->tuple.dst, dst);
}

/* What becomes of this connect(); CONNECT_REDIRECT: the caller puts *ret_relay in place of dst. */
static __always_inline int connect_decide(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					  const struct tproxy_endpoint *dst,
					  struct tproxy_endpoint *ret_relay)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	const struct tproxy_policy *policy;
	enum match_verdict verdict;
	struct client *client;

	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client) {
		if (is_redirected(client, dst))
			return CONNECT_PROCEED;
		/* A socket that connects again, after a failure or AF_UNSPEC, starts anew. */
		client_forget(client, cookie);
	}
	policy = get_policy();
	if (!policy)
		return CONNECT_PROCEED;
	/* First what is nobody's: it costs nothing to find out. */
	verdict = match_dst(dst, policy->flags);
	if (verdict == MATCH_BYPASS_LOOPBACK) {
		count(TPROXY_STAT_BYPASS_LOOPBACK);
		return CONNECT_PROCEED;
	}
	if (verdict == MATCH_BYPASS_MULTICAST) {
		count(TPROXY_STAT_BYPASS_MULTICAST);
		return CONNECT_PROCEED;
	}
	if (is_relay(sk, policy)) {
		count(TPROXY_STAT_BYPASS_RELAY);
		return CONNECT_PROCEED;
	}
	if (verdict == MATCH_LINK_LOCAL)
		return unredirected(policy, TPROXY_STAT_LINK_LOCAL);
	return redirect(ctx, sk, policy, cookie, dst, ret_relay);
}

static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP && ctx->type == SOCK_STREAM;
}

#endif
