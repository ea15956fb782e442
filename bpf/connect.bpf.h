/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision of connect4 and connect6, which differ only in how they read and write the address.
 * connect_decide() works through these steps:
 *
 *   1. Drop the record of an earlier connect() of this socket, and undo client_abort().
 *   2. Let pass, with a counter for each reason: loopback and multicast destinations, the relay's
 *      sockets and processes, port 0, TCP_REPAIR.
 *   3. Hand to unredirected() what lo cannot carry: link-local destinations and the sockets that
 *      is_unsupported() lists.
 *   4. redirect(): choose a port of the relay of this network namespace and check that listener's
 *      mark; look up the negative cache; record the destination in the socket's storage.
 *
 * Only then does the caller write the relay's address into the context. A failure in step 4 ends in
 * unredirected(), which chooses between fail-open and fail-closed. A hit in the negative cache
 * fails connect() with the recorded errno instead. The maps of connections stay as they are, apart
 * from a test for room: connect() may still fail before its SYN, so sockops inserts the entries.
 */
#ifndef TPROXY_CONNECT_BPF_H
#define TPROXY_CONNECT_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "base.bpf.h"
#include "client.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "match.bpf.h"
#include "share.bpf.h"
#include "sweep.bpf.h"
#include "tproxy_abi.h"

/* Return values of cgroup connect programs; CONNECT_REDIRECT is for connect_decide() only. */
enum {
	CONNECT_REJECT = 0,
	CONNECT_PROCEED = 1,
	CONNECT_REDIRECT,
};

/*
 * Applies the policy to a connection that should be redirected and cannot be, and counts why.
 * Fail-open connects directly. Fail-closed makes connect() fail with ECONNREFUSED, which takes
 * bpf_set_retval() (since 5.18): a plain rejection is EPERM.
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

/* True if the socket carries the UPSTREAM mark or the calling process is in the relay cgroup. */
static __always_inline bool is_relay(struct bpf_sock *sk, const struct tproxy_policy *policy)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);

	return (mark && mark->flags & TPROXY_MARK_UPSTREAM) || in_relay_cgroup(policy);
}

/*
 * True if the listener at this address carries the mark and is visible to sockops. A process that
 * binds the same port cannot forge the mark, and the mark ends with the socket. *ret_listener is
 * the listener's key in map_listeners, 0 = unknown.
 */
static __always_inline bool is_our_listener(struct bpf_sock_addr *ctx,
					    const struct tproxy_endpoint *ep, __u64 *ret_listener)
{
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
		ours = (mark->flags & TPROXY_MARK_READY) == TPROXY_MARK_READY;
		*ret_listener = mark->listener;
	}
	bpf_sk_release(sk);
	return ours;
}

/*
 * Looks up the negative cache. Returns the errno that a relay recorded for this destination, or 0.
 * Only errnos that describe a destination count, because a relay can write any value to the map.
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
 * True if, within the last TPROXY_STRAYED_NS, a SYN of this user to the relay would have left the
 * host.
 */
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
 * True if map_socks has room for one more entry. The entry itself is inserted at the SYN, when a
 * hook exists that will delete it. The test comes here because the policy decides about a full map.
 */
static __always_inline bool has_room(const struct client *client)
{
	if (bpf_map_update_elem(&map_socks, &client->cookie, &client->conn, BPF_ANY))
		return false;
	bpf_map_delete_elem(&map_socks, &client->cookie);
	return true;
}

/*
 * Records the destination of a connect() in the socket's storage. Returns 0 and sets *ret_client,
 * or returns the counter of the failure (enum tproxy_stat). The caller adds the relay's address and
 * port, and sets client->recorded.
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
 * Picks the port with the fewest connections, the lowest index first. Sequential clients thus stay
 * on one worker, which is awake; concurrent clients are spread over all. Two CPUs may pick the same
 * port, which is harmless. Returns false if the relay does not serve this family, or if its entry
 * is malformed (an address of the other family).
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
 * True if this host already has a connection to that port of the relay, from the source that the
 * socket is bound to. Connections in TIME_WAIT count.
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
	/* The tuple of a segment to the client: the relay is the source. */
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
	__u16 last_port; /* relay port of this socket's previous connect(), 0 = none */
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
 * Moves on to the first free port of the relay, for a client that is bound to a source port. Such a
 * client can have one connection to each port of the relay, and TIME_WAIT sockets are in its way
 * too. The port of the socket's previous connect() is skipped: if that connect() was cancelled with
 * AF_UNSPEC, the relay's side of the handshake may still exist.
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

/*
 * True if this is a port of the relay. The destination may then be the relay itself, reached by any
 * local address.
 */
static __always_inline bool has_port(const struct tproxy_listen *listen, __u16 port)
{
	__u32 i;

	for (i = 0; i < TPROXY_PORTS_MAX && i < listen->n_ports; i++) {
		if (listen->ports[i] == port)
			return true;
	}
	return false;
}

/* What the record needs to know about the chosen port, besides the address. */
struct target {
	__u64 listener;		 /* key in map_listeners */
	__u16 loads, port_index; /* as in struct tproxy_conn */
};

static __always_inline void next_port(const struct tproxy_listen *listen,
				      struct tproxy_endpoint *relay, __u16 *index)
{
	__u32 next = *index + 1;

	if (next >= listen->n_ports || next >= TPROXY_PORTS_MAX)
		next = 0;
	barrier_var(next); /* the verifier must see the bound of the value in use */
	next %= TPROXY_PORTS_MAX;
	relay->port = listen->ports[next];
	*index = (__u16)next;
}

/*
 * Chooses the relay's port for this client. Returns 0, or the counter of the failure (enum
 * tproxy_stat).
 */
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
		/*
		 * A destroyed listener has no connections left, so every client would pick its
		 * port: try the next.
		 */
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
 * Redirects this connection if every precondition holds, otherwise applies the policy. On
 * CONNECT_REDIRECT *ret_relay is the address to connect to.
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
	/* A connection to the relay itself passes: the relay finds no destination and resets it. */
	if (has_port(listen, dst->port) && is_our_listener(ctx, dst, &unused)) {
		count(TPROXY_STAT_BYPASS_LISTENER);
		return CONNECT_PROCEED;
	}
	/*
	 * A socket bound to a device would send the SYN, with a loopback address, out of that
	 * device.
	 */
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
		/* Sweep for later connects: stale entries may be what takes up the room. */
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
 * Decides this connect(). Returns the program's return value, or CONNECT_REDIRECT: the caller then
 * replaces dst by *ret_relay.
 */
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
		/* The socket connects again, after a failure or AF_UNSPEC: drop the old record. */
		client_forget(client);
	}
	policy = get_policy();
	if (!policy)
		return CONNECT_PROCEED;
	/* Cheap address checks first: they look at no socket and no cgroup. */
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
