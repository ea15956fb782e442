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
#include "share.bpf.h"
#include "sweep.bpf.h"

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
 * cannot be forged by whoever else binds the port, and it ends with the socket. *ret_listener is
 * its key in map_listeners.
 */
static __always_inline bool is_our_listener(struct bpf_sock_addr *ctx,
					    const struct tproxy_endpoint *ep, __u64 *ret_listener)
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
	if (mark) {
		ours = (mark->flags & wanted) == wanted;
		*ret_listener = mark->listener;
	}
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

/*
 * Sockets that lo cannot carry, or whose meaning a relay would change: a peer that is authenticated
 * by TCP_MD5SIG or TCP-AO, or by its distance (IP_MINTTL); a source that answers would not come
 * back to; a source route.
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

/* Was this user, a moment ago, about to send a SYN for the relay to another host? */
static __always_inline bool has_strayed(const struct tproxy_relay *relay, __u64 netns_cookie,
					__u64 now_ns)
{
	struct tproxy_strayed_key key = {
		.netns_cookie = netns_cookie,
		.uid = (__u32)bpf_get_current_uid_gid(),
	};
	const __u64 *when;

	if (now_ns >= relay->strayed_ns + TPROXY_STRAYED_NS)
		return false;
	when = bpf_map_lookup_elem(&map_strayed, &key);
	return when && now_ns < *when + TPROXY_STRAYED_NS;
}

/*
 * Is there room in map_socks? The entry itself is made when something is there that ends it, at the
 * SYN; but a full map is an answer to connect.
 */
static __always_inline bool has_room(const struct client *client)
{
	if (bpf_map_update_elem(&map_socks, &client->cookie, &client->conn, BPF_ANY))
		return false;
	bpf_map_delete_elem(&map_socks, &client->cookie);
	return true;
}

/*
 * Records the destination of a connect() in the socket's storage. 0, or the counter of what is in
 * its way. The caller adds where it is redirected to.
 */
static __always_inline int record(struct bpf_sock_addr *ctx, struct bpf_sock *sk, __u64 seed,
				  const struct tproxy_endpoint *dst, struct client **ret_client)
{
	struct client *client;
	struct tproxy_conn *conn;

	client = bpf_sk_storage_get(&map_clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!client)
		return TPROXY_STAT_NO_STORAGE;
	conn = &client->conn;
	__builtin_memset(conn, 0, sizeof(*conn));
	conn->started_ns = bpf_ktime_get_ns();
	conn->netns_cookie = bpf_get_netns_cookie(ctx);
	conn->cgroup_id = bpf_get_current_cgroup_id();
	conn->pid = bpf_get_current_pid_tgid() >> 32;
	conn->uid = (__u32)bpf_get_current_uid_gid();
	conn->dst = *dst;
	bpf_get_current_comm(conn->comm, sizeof(conn->comm));
	note_options(ctx, sk, conn);
	share_choose(seed, conn);
	client->cookie = bpf_get_socket_cookie(ctx);
	if (!share_is_free(conn->shares))
		return TPROXY_STAT_OVER_SHARE;
	if (!has_room(client))
		return TPROXY_STAT_MAP_FULL;
	*ret_client = client;
	return 0;
}

struct least {
	const __s32 *loads;
	__s32 load;
	__u32 index;
};

static long compare_load(__u32 i, struct least *least)
{
	__s32 load = least->loads[i % TPROXY_PORTS_MAX];

	if (load < least->load) {
		least->load = load;
		least->index = i;
	}
	return 0;
}

/*
 * The port with the fewest connections, the first of these. So one client after the other has one
 * worker, which is awake, and those at a time are spread over all. Two CPUs may take the same one,
 * which does not matter. false: the relay does not serve this family, or its entry says so of
 * addresses of the other one, which would be read as something else.
 */
static __always_inline bool take_port(const struct tproxy_listen *listen, const __s32 *loads,
				      bool is4, struct tproxy_endpoint *ret_relay, __u16 *ret_index)
{
	struct least least = { .loads = loads, .load = 0x7fffffff };

	if (listen->n_ports == 0 || !loads)
		return false;
	bpf_loop(listen->n_ports, compare_load, &least, 0);
	least.index %= TPROXY_PORTS_MAX;
	__builtin_memcpy(ret_relay->addr, listen->addr, sizeof(ret_relay->addr));
	ret_relay->port = listen->ports[least.index];
	ret_relay->reserved = 0;
	*ret_index = (__u16)least.index;
	return ret_relay->port && endpoint_is_mapped4(ret_relay) == is4;
}

/*
 * Has this host a connection with that port of the relay, or what is left of one, from the source
 * that the socket is bound to?
 */
static __always_inline bool is_taken(struct bpf_sock_addr *ctx, const struct tproxy_endpoint *relay)
{
	struct bpf_sock *sk = ctx->sk;
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv6);
	struct bpf_sock *other;
	bool taken;

	if (!sk)
		return false;
	/* As in a segment that comes back: the relay is the source. */
	if (endpoint_is_mapped4(relay)) {
		tuple.ipv4.saddr = endpoint_get4(relay);
		tuple.ipv4.sport = bpf_htons(relay->port);
		tuple.ipv4.daddr = sk->src_ip4 ? sk->src_ip4 : tuple.ipv4.saddr;
		tuple.ipv4.dport = bpf_htons((__u16)sk->src_port);
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, relay->addr, sizeof(relay->addr));
		tuple.ipv6.sport = bpf_htons(relay->port);
		load_words(tuple.ipv6.daddr, sk->src_ip6);
		if (!(tuple.ipv6.daddr[0] | tuple.ipv6.daddr[1] | tuple.ipv6.daddr[2] |
		      tuple.ipv6.daddr[3]))
			__builtin_memcpy(tuple.ipv6.daddr, relay->addr, sizeof(relay->addr));
		tuple.ipv6.dport = bpf_htons((__u16)sk->src_port);
	}
	other = bpf_skc_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!other)
		return false;
	taken = other->state != BPF_TCP_LISTEN;
	bpf_sk_release(other);
	return taken;
}

struct search {
	struct bpf_sock_addr *ctx;
	const struct tproxy_listen *listen;
	struct tproxy_endpoint relay;
	__u32 index;
	__u16 last_port; /* of the relay, that this socket was redirected to before, or 0 */
};

static long try_next(__u32 i, struct search *search)
{
	if (search->relay.port != search->last_port && !is_taken(search->ctx, &search->relay))
		return 1;
	if (++search->index >= search->listen->n_ports || search->index >= TPROXY_PORTS_MAX)
		search->index = 0;
	search->relay.port = search->listen->ports[search->index];
	return 0;
}

/*
 * A client that is bound to a source port has one connection with each port of the relay, and what
 * is left of those that have ended is in its way too: the first port that is free. Of a connect()
 * that was called off (AF_UNSPEC) the relay's side of the handshake may be left.
 */
static __always_inline void avoid_taken(struct bpf_sock_addr *ctx,
					const struct tproxy_listen *listen,
					struct tproxy_endpoint *relay, __u16 *index)
{
	struct search search = { .ctx = ctx, .listen = listen, .relay = *relay, .index = *index };
	const struct client *client = NULL;

	if (ctx->sk)
		client = bpf_sk_storage_get(&map_clients, ctx->sk, NULL, 0);
	if (client)
		search.last_port = client->conn.relay.port;
	bpf_loop(listen->n_ports, try_next, &search, 0);
	relay->port = search.relay.port;
	*index = (__u16)search.index;
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

/* What else is to be known of the port that a client is redirected to. */
struct target {
	__u64 listener;		 /* in map_listeners */
	__u16 loads, port_index; /* as in struct tproxy_conn */
};

static __always_inline void next_port(const struct tproxy_listen *listen,
				      struct tproxy_endpoint *relay, __u16 *index)
{
	__u32 next = *index + 1;

	if (next >= listen->n_ports || next >= TPROXY_PORTS_MAX)
		next = 0;
	barrier_var(next); /* the verifier has to see the bound of what is used */
	next %= TPROXY_PORTS_MAX;
	relay->port = listen->ports[next];
	*index = (__u16)next;
}

/* The port of the relay for this client. 0, or the counter of what is in its way. */
static __always_inline int choose(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				  struct tproxy_relay *relay, const struct tproxy_listen *listen,
				  __u64 netns_cookie, bool is4, __u64 now_ns,
				  struct tproxy_endpoint *ret_relay, struct target *ret_target)
{
	ret_target->loads = (netns_cookie * 31 + listen->ports[0]) % TPROXY_LOADS_MAX;
	if (!take_port(listen, loads_at(ret_target->loads), is4, ret_relay,
		       &ret_target->port_index))
		return TPROXY_STAT_NO_RELAY;
	if (sk->src_port)
		avoid_taken(ctx, listen, ret_relay, &ret_target->port_index);
	if (!is_our_listener(ctx, ret_relay, &ret_target->listener)) {
		__sync_fetch_and_add(&relay->missed, 1);
		/* One of several may have been destroyed: it has no load, so all clients come. */
		next_port(listen, ret_relay, &ret_target->port_index);
		if (!is_our_listener(ctx, ret_relay, &ret_target->listener))
			return TPROXY_STAT_NO_LISTENER;
	}
	if (relay->alive_ns && now_ns > relay->alive_ns + TPROXY_STALE_NS) {
		__sync_fetch_and_add(&relay->missed, 1);
		return TPROXY_STAT_STALLED;
	}
	return 0;
}

/*
 * In scope, TCP, and not a relay's: to the relay with it, if everything that this needs is there.
 * *ret_relay is where that is.
 */
static __always_inline int redirect(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				    const struct tproxy_policy *policy,
				    const struct tproxy_endpoint *dst,
				    struct tproxy_endpoint *ret_relay)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx), now_ns = bpf_ktime_get_ns(), unused;
	bool is4 = endpoint_is_mapped4(dst);
	const struct tproxy_listen *listen;
	struct target target = {};
	struct tproxy_relay *relay;
	struct client *client;
	__u32 error;
	int why;

	relay = bpf_map_lookup_elem(&map_config, &netns_cookie);
	if (!relay)
		return unredirected(policy, TPROXY_STAT_NO_RELAY);
	listen = &relay->listen[is4 ? TPROXY_INET : TPROXY_INET6];
	why = choose(ctx, sk, relay, listen, netns_cookie, is4, now_ns, ret_relay, &target);
	if (why)
		return unredirected(policy, why);
	/* To the relay itself: it finds no destination and resets. */
	if (has_port(listen, dst->port) && is_our_listener(ctx, dst, &unused)) {
		count(TPROXY_STAT_BYPASS_LISTENER);
		return CONNECT_PROCEED;
	}
	/* A socket bound to a device would send its SYN for a loopback address out there. */
	if (sk->bound_dev_if)
		return unredirected(policy, TPROXY_STAT_BOUND_DEVICE);
	if (has_strayed(relay, netns_cookie, now_ns))
		return unredirected(policy, TPROXY_STAT_STRAYED);

	error = known_error(netns_cookie, dst, now_ns);
	if (error) {
		count(TPROXY_STAT_KNOWN_FAILED);
		bpf_set_retval(-(int)error);
		return CONNECT_REJECT;
	}
	why = record(ctx, sk, policy->seed, dst, &client);
	if (why) {
		/* For the next one: there is room if some of the entries are nobody's. */
		if (why != TPROXY_STAT_NO_STORAGE)
			sweep(ctx, netns_cookie, /* at_once= */ false);
		return unredirected(policy, why);
	}
	client->conn.port_index = target.port_index;
	client->conn.loads = target.loads;
	client->listener = target.listener;
	client->conn.relay = *ret_relay;
	client->recorded = 1;
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
	return client->recorded && !client->published && endpoint_equal(&client->conn.relay, dst);
}

/*
 * What client_abort() did. The kernel lets only those with CAP_NET_RAW unbind a socket, and the
 * process in which it was closed may have been another one.
 */
static __always_inline void unbind(struct bpf_sock_addr *ctx, struct client *client)
{
	int value = 0;

	if (!bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &value, sizeof(value)))
		client->nowhere = 0;
}

/* What becomes of this connect(); CONNECT_REDIRECT: the caller puts *ret_relay in place of dst. */
static __always_inline int connect_decide(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					  const struct tproxy_endpoint *dst,
					  struct tproxy_endpoint *ret_relay)
{
	const struct tproxy_policy *policy;
	enum match_verdict verdict;
	struct client *client;
	struct tcp_sock *tp;

	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client) {
		if (is_redirected(client, dst))
			return CONNECT_PROCEED;
		if (client->nowhere)
			unbind(ctx, client);
		/* A socket that connects again, after a failure or AF_UNSPEC, starts anew. */
		client_forget(client);
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
	if (dst->port == 0) {
		count(TPROXY_STAT_BYPASS_PORT0);
		return CONNECT_PROCEED;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && BPF_CORE_READ_BITFIELD(tp, repair)) {
		count(TPROXY_STAT_BYPASS_REPAIR);
		return CONNECT_PROCEED;
	}
	if (verdict == MATCH_LINK_LOCAL)
		return unredirected(policy, TPROXY_STAT_LINK_LOCAL);
	if (tp && is_unsupported(sk, tp))
		return unredirected(policy, TPROXY_STAT_UNSUPPORTED);
	return redirect(ctx, sk, policy, dst, ret_relay);
}

static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP && ctx->type == SOCK_STREAM;
}

#endif
