/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The relay's port for one connect(): the least loaded one (port.bpf.h), the next free one for a
 * client with a bound source port, and whether a listener is the relay's own.
 */
#ifndef TPROXY_TARGET_BPF_H
#define TPROXY_TARGET_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "maps.bpf.h"
#include "port.bpf.h"
#include "record.bpf.h"
#include "tproxy_abi.h"

/* The chosen port: its address, and its place in map_listeners and map_loads. */
struct target {
	struct tproxy_endpoint relay;
	__u64 listener;		 /* key in map_listeners, 0 = unknown */
	__u16 loads, port_index; /* as in struct tproxy_conn */
};

/* Reads address and port of the relay at an index of its ports. */
static __always_inline void read_port(const struct tproxy_listen *listen, __u32 index,
				      struct tproxy_endpoint *ret)
{
	barrier_var(index); /* the verifier must see the bound of the value in use */
	__builtin_memcpy(ret->addr, listen->addr, sizeof(ret->addr));
	ret->port = listen->ports[index % TPROXY_PORTS_MAX];
	ret->reserved = 0;
}

/*
 * True if the listener at this address carries the mark and is visible to sockops. A process that
 * binds the same port cannot forge the mark, and the mark ends with the socket. A listener of a
 * pair needs only the mark: where a relay is replaced at the same port, the kernel finds the new
 * listener a moment before sockops sees it, and a relay registers only pairs that sockops has seen.
 * *ret_listener is the listener's key in map_listeners, 0 = unknown.
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
		ours = (mark->flags & TPROXY_MARK_READY) == TPROXY_MARK_READY ||
		       mark->flags & TPROXY_MARK_HONEST;
		*ret_listener = mark->listener;
	}
	bpf_sk_release(sk);
	return ours;
}

/*
 * As is_our_listener() of the port at this index, where few connects come. A global function, see
 * rules_find(): connect would have is_our_listener() three times. *ret_listener must have a value.
 */
__attribute__((noinline)) int is_our_listener_at(struct bpf_sock_addr *ctx,
						 const struct tproxy_listen *listen, __u32 index,
						 __u64 *ret_listener)
{
	struct tproxy_endpoint relay;

	if (!listen || !ret_listener)
		return 0;
	read_port(listen, index, &relay);
	return is_our_listener(ctx, &relay, ret_listener);
}

/*
 * True if dst, which has the relay's address, is a live listener of this relay. A global function,
 * see rules_find(), because few connects go there.
 */
__attribute__((noinline)) int is_relay_itself(struct bpf_sock_addr *ctx,
					      const struct tproxy_listen *listen,
					      const struct tproxy_endpoint *dst)
{
	__u64 unused = 0;
	__u32 same;

	if (!listen || !dst)
		return 0;
	same = port_is_relays(listen, dst);
	barrier_var(same); /* clang would move what follows into the loop over the ports */
	if (!same)
		return 0;
	return is_our_listener(ctx, dst, &unused);
}

/*
 * Picks the port with the fewest connections. Two CPUs may pick the same port, which is harmless.
 * Returns false if the relay does not serve this family, or if its entry is malformed (an address
 * of the other family).
 */
static __always_inline bool take_port(const struct tproxy_listen *listen, bool is4,
				      struct target *target)
{
	struct port_least least = { .loads = loads_at(target->loads), .load = 0x7fffffff };
	struct tproxy_endpoint *relay = &target->relay;

	if (listen->n_ports == 0 || !least.loads)
		return false;
	bpf_loop(listen->n_ports, port_compare, &least, 0);
	least.index %= TPROXY_PORTS_MAX;
	__builtin_memcpy(relay->addr, listen->addr, sizeof(relay->addr));
	relay->port = listen->ports[least.index];
	relay->reserved = 0;
	target->port_index = (__u16)least.index;
	return relay->port && endpoint_is_mapped4(relay) == is4;
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
	search->index = port_next(search->listen, search->index);
	barrier_var(search->index); /* the verifier must see the bound of the value in use */
	search->relay.port = search->listen->ports[search->index % TPROXY_PORTS_MAX];
	return 0;
}

/*
 * Returns the index of the first free port of the relay from this index on, for a client that is
 * bound to a source port. Such a client can have one connection to each port of the relay, and
 * TIME_WAIT sockets are in its way too. The port of the socket's previous connect() is skipped: if
 * that connect() was cancelled with AF_UNSPEC, the relay's side of the handshake may still exist. A
 * global function, see rules_find(): inlined twice, it was a sixth of what the verifier walks
 * through for connect, and few clients bind.
 */
__attribute__((noinline)) int find_free(struct bpf_sock_addr *ctx,
					const struct tproxy_listen *listen, __u32 index)
{
	struct search search = { .ctx = ctx, .listen = listen, .index = index };
	const struct client *client = NULL;

	if (!listen)
		return 0;
	read_port(listen, index, &search.relay);
	if (ctx->sk)
		client = bpf_sk_storage_get(&map_clients, ctx->sk, NULL, 0);
	if (client)
		search.last_port = client->conn.relay.port;
	bpf_loop(listen->n_ports, try_next, &search, 0);
	return (int)search.index;
}

static __always_inline void set_port(const struct tproxy_listen *listen, __u32 index,
				     struct target *target)
{
	barrier_var(index); /* the verifier must see the bound of the value in use */
	index %= TPROXY_PORTS_MAX;
	target->relay.port = listen->ports[index];
	target->port_index = (__u16)index;
}

/* Moves on to the first free port, see find_free(). */
static __always_inline void avoid_taken(struct bpf_sock_addr *ctx,
					const struct tproxy_listen *listen, struct target *target)
{
	set_port(listen, (__u32)find_free(ctx, listen, target->port_index), target);
}

static __always_inline void next_port(const struct tproxy_listen *listen, struct target *target)
{
	set_port(listen, port_next(listen, target->port_index), target);
}

#endif
