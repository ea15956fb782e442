/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Entries without a socket, found and removed: the hooks that end them may have been detached for a
 * moment, or another sockops program has put its callback flags in place of ours on a socket that
 * the kernel made for itself. A pass goes through the entries of one network namespace and asks its
 * table of connections for each client's socket. Relays ask for a pass every other second (the bind
 * hook), tproxyctl and tproxy-load before they show or count (BPF_PROG_TEST_RUN), and connect when
 * there is no room.
 */
#ifndef TPROXY_SWEEP_BPF_H
#define TPROXY_SWEEP_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"
#include "base.bpf.h"
#include "client.bpf.h"
#include "maps.bpf.h"
#include "match.bpf.h"

/* Passes of one namespace are at least so far apart, whoever asks. */
#define SWEEP_PAUSE_NS 500000000ULL
/* A younger entry may be about to be completed, or deleted. */
#define SWEEP_AGE_NS 500000000ULL
/* Entries of another namespace that are older, in which no relay has been alive for so long. */
#define SWEEP_DESERTED_NS 15000000000ULL
/* A pass over more entries than these is made in parts, for other work to come in between. */
#define SWEEP_PART 8192

struct sweep_step {
	void *ctx; /* of the program, for looking up sockets */
	__u64 netns_cookie;
	__u64 now_ns;
	__u32 part, parts; /* entries whose cookie is part, modulo parts */
	__u32 n;	   /* entries, of all parts */
};

static __always_inline bool has_socket(void *ctx, const struct tproxy_tuple *of, __u64 cookie)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv6);
	struct client *client;
	struct bpf_sock *sk;
	bool found = false;

	/* As in a segment to the client: the relay is the source. */
	if (endpoint_is_mapped4(&of->src)) {
		tuple.ipv4.saddr = endpoint_get4(&of->dst);
		tuple.ipv4.daddr = endpoint_get4(&of->src);
		tuple.ipv4.sport = bpf_htons(of->dst.port);
		tuple.ipv4.dport = bpf_htons(of->src.port);
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, of->dst.addr, sizeof(of->dst.addr));
		__builtin_memcpy(tuple.ipv6.daddr, of->src.addr, sizeof(of->src.addr));
		tuple.ipv6.sport = bpf_htons(of->dst.port);
		tuple.ipv6.dport = bpf_htons(of->src.port);
	}
	sk = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client)
		found = client->published && client->cookie == cookie;
	bpf_sk_release(sk);
	return found;
}

/*
 * Nobody looks sockets up in a namespace whose relay is gone, with its connections or after they
 * have been let go, and nobody can in one that is gone itself.
 */
static __always_inline bool is_deserted(__u64 netns_cookie, __u64 now_ns)
{
	const struct tproxy_relay *relay = bpf_map_lookup_elem(&map_config, &netns_cookie);

	return !relay || (relay->alive_ns && now_ns > relay->alive_ns + SWEEP_DESERTED_NS);
}

/* Of map_socks. Entries that user space wrote (started_ns 0) are left to it. */
static long sweep_sock(void *map, const __u64 *key, struct tproxy_conn *conn,
		       struct sweep_step *step)
{
	struct tproxy_tuple tuple = {};
	struct counted counted;
	__u64 cookie = *key, age_ns = SWEEP_AGE_NS;
	bool here = conn->netns_cookie == step->netns_cookie;

	if (!conn->started_ns)
		return 0;
	if (here)
		step->n++;
	else
		age_ns = SWEEP_DESERTED_NS;
	if (cookie % step->parts != step->part || step->now_ns < conn->started_ns + age_ns)
		return 0;
	tuple_of(conn, &tuple);
	counted = counted_of(conn);
	if (here ? has_socket(step->ctx, &tuple, cookie)
		 : !is_deserted(conn->netns_cookie, step->now_ns))
		return 0;
	if (entries_delete(&tuple, cookie, &counted))
		count(TPROXY_STAT_STALE);
	return 0;
}

/* Of map_ports: an entry is made after the one in map_socks, and deleted before it. */
static long sweep_port(void *map, const struct tproxy_tuple *key, const __u64 *value,
		       struct sweep_step *step)
{
	struct tproxy_tuple tuple = *key;
	__u64 cookie = *value;

	if (!cookie)
		return 0;
	if (!bpf_map_lookup_elem(&map_socks, &cookie) && !bpf_map_delete_elem(&map_ports, &tuple))
		count(TPROXY_STAT_STALE);
	return 0;
}

/*
 * The next part of a pass; true: it is not the last. ctx: that of a program that may look up
 * sockets. Two at a time would do one thing twice, which does no harm.
 */
static __always_inline bool sweep(void *ctx, __u64 netns_cookie, bool at_once)
{
	struct tproxy_sweep first = {}, *state;
	struct sweep_step step = {
		.ctx = ctx,
		.netns_cookie = netns_cookie,
		.now_ns = bpf_ktime_get_ns(),
	};

	state = bpf_map_lookup_elem(&map_sweep, &netns_cookie);
	if (!state) {
		bpf_map_update_elem(&map_sweep, &netns_cookie, &first, BPF_NOEXIST);
		state = bpf_map_lookup_elem(&map_sweep, &netns_cookie);
	}
	if (!state)
		return false;
	step.parts = state->entries / SWEEP_PART + 1;
	step.part = state->part;
	if (step.part >= step.parts)
		step.part = 0;
	if (step.part == 0) {
		if (!at_once && step.now_ns < state->begun_ns + SWEEP_PAUSE_NS)
			return false;
		state->begun_ns = step.now_ns;
		bpf_for_each_map_elem(&map_ports, sweep_port, &step, 0);
	}
	bpf_for_each_map_elem(&map_socks, sweep_sock, &step, 0);
	state->entries = step.n;
	state->part = step.part + 1;
	return state->part < step.parts;
}

#endif
