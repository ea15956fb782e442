/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sweep finds and deletes stale entries: those whose client socket is gone. Normally
 * sock_release or STATE -> CLOSE deletes an entry. Those events are lost if the hooks were detached
 * for a moment, or if another sockops program replaced the callback flags of a socket that the
 * kernel made for itself (MPTCP).
 *
 * A pass walks map_ports, map_socks, map_observed and map_observed_slots, and looks up each
 * client's socket in the table of connections, which works in the caller's network namespace only.
 * An entry of another namespace is deleted by its age, once that namespace has had no live relay
 * for SWEEP_DESERTED_NS; observed connections need no relay, so may_be_alive() applies other rules
 * to them. A large pass runs in parts; map_sweep holds the position for each namespace.
 *
 * Relays run a pass every two seconds, less often if it is expensive (the bind hook). tproxyctl and
 * tproxy-load run one before they show or count entries (BPF_PROG_TEST_RUN). connect runs one part
 * when there is no room.
 */
#ifndef TPROXY_SWEEP_BPF_H
#define TPROXY_SWEEP_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "flow.bpf.h"
#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "observe.bpf.h"
#include "record.bpf.h"
#include "stats.bpf.h"
#include "tproxy_abi.h"
#include "verifier.bpf.h"

/* Shortest interval between two passes of one namespace. Root's tools do not wait for it. */
#define SWEEP_PAUSE_NS 500000000ULL
/* Entries younger than this are skipped: a hook may be about to complete or delete them. */
#define SWEEP_AGE_NS 500000000ULL
/*
 * For an entry of another namespace: its minimum age, and how long that namespace must have been
 * without a live relay.
 */
#define SWEEP_DESERTED_NS 15000000000ULL
/* Age at which the entry of an observed connection whose SYN was not sent is given up. */
#define SWEEP_UNSENT_NS SWEEP_DESERTED_NS
/*
 * Time since the program closed the socket, after which an entry that cannot be looked up is given
 * up.
 */
#define SWEEP_RELEASED_NS 180000000000ULL
/* A pass over more entries than this is split into parts, so that other work can run in between. */
#define SWEEP_PART 8192

/* The first value of a namespace in map_sweep. Constant, because the stack of connect is full. */
static const struct tproxy_sweep sweep_first;

struct sweep_step {
	void *ctx; /* program context, for socket lookups */
	__u64 netns_cookie;
	__u64 now_ns;
	__u32 part, parts; /* this part has the entries with cookie % parts == part */
	__u64 n;	   /* entries of this namespace, in all parts */
	__u64 n_observed;  /* entries of observed connections, of all namespaces */
};

/*
 * Looks the client's socket of a connection up in the table of connections. The caller releases it.
 * The lookup has no device, so it misses a socket that was bound to a device after connect().
 */
static __always_inline struct bpf_sock *find_socket(void *ctx, const struct tproxy_endpoint *src,
						    const struct tproxy_endpoint *dst)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = sizeof(tuple.ipv6);

	/* The tuple of a segment to the client: its peer is the source. */
	if (endpoint_is_mapped4(src)) {
		tuple.ipv4.saddr = endpoint_get4(dst);
		tuple.ipv4.daddr = endpoint_get4(src);
		tuple.ipv4.sport = bpf_htons(dst->port);
		tuple.ipv4.dport = bpf_htons(src->port);
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, dst->addr, sizeof(dst->addr));
		__builtin_memcpy(tuple.ipv6.daddr, src->addr, sizeof(src->addr));
		tuple.ipv6.sport = bpf_htons(dst->port);
		tuple.ipv6.dport = bpf_htons(src->port);
	}
	return bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
}

/* True if the table of connections holds the client's socket of this entry of map_socks. */
static __always_inline bool has_socket(void *ctx, const struct tproxy_conn *conn, __u64 cookie)
{
	struct client *client;
	struct bpf_sock *sk;
	bool found = false;

	sk = find_socket(ctx, &conn->src, &conn->relay);
	if (!sk)
		return false;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client)
		found = client->published && client->conn.cookie == cookie;
	bpf_sk_release(sk);
	return found;
}

/*
 * True if no relay sweeps this namespace: none is registered there, or its heartbeat is older than
 * SWEEP_DESERTED_NS. The namespace itself may be gone.
 */
static __always_inline bool is_deserted(__u64 netns_cookie, __u64 now_ns)
{
	const struct tproxy_relay *relay = bpf_map_lookup_elem(&map_config, &netns_cookie);

	return !relay || (relay->alive_ns && now_ns > relay->alive_ns + SWEEP_DESERTED_NS);
}

/*
 * Callback for each entry of map_socks. Entries that user space wrote (started_ns 0) are left to
 * it.
 */
static long sweep_sock(void *map, const __u64 *key, struct tproxy_conn *conn,
		       struct sweep_step *step)
{
	struct tproxy_tuple tuple = {};
	struct counted counted;
	__u64 cookie = *key;
	const bool here = conn->netns_cookie == step->netns_cookie;
	const __u64 age_ns = here ? SWEEP_AGE_NS : SWEEP_DESERTED_NS;
	bool alive;

	if (!conn->started_ns)
		return 0;
	step->n += here;
	if (cookie % step->parts != step->part || step->now_ns < conn->started_ns + age_ns)
		return 0;
	alive = here ? has_socket(step->ctx, conn, cookie)
		     : !is_deserted(conn->netns_cookie, step->now_ns);
	/* One path for the verifier, however this was found out. */
	if (verifier_forget(alive, step->now_ns) & 1)
		return 0;
	/* If the element is reused for another connection meanwhile, nothing has this cookie. */
	tuple_of(conn, &tuple);
	counted = counted_of(conn);
	if (conn->pending)
		pending_free(conn->pending, conn->generation);
	if (entries_delete(&tuple, cookie, &counted))
		count(TPROXY_STAT_STALE);
	return 0;
}

/*
 * Callback for each entry of map_ports. An entry is inserted after the one in map_socks and deleted
 * before it, so an entry without the other is stale.
 */
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

/* True if the table of connections holds the socket of this observed connection. */
static __always_inline bool has_observed_socket(void *ctx, const struct tproxy_observed *observed,
						__u64 cookie)
{
	struct bpf_sock *sk = find_socket(ctx, &observed->src, &observed->dst);
	struct tcp_sock *tp;
	bool found = false;

	if (!sk)
		return false;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		found = (__u64)tp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter == cookie;
	bpf_sk_release(sk);
	return found;
}

/*
 * True if the connection of this entry may still exist. A socket that cannot be looked up, because
 * it is in another network namespace, bound to a device or connected elsewhere, counts as alive for
 * SWEEP_RELEASED_NS after its program has closed it. An entry whose SYN does not come is given up,
 * because no hook reports that the kernel closed an internal socket (MPTCP). A deferred SYN (Fast
 * Open) that comes later is not observed.
 */
static __always_inline bool may_be_alive(const struct tproxy_observed *observed, __u64 cookie,
					 const struct sweep_step *step)
{
	if (!(observed->flags & TPROXY_OBSERVED_SENT))
		return step->now_ns < observed->started_ns + SWEEP_UNSENT_NS;
	if (observed->netns_cookie == step->netns_cookie &&
	    !(observed->flags & (TPROXY_OBSERVED_DEVICE | TPROXY_OBSERVED_MOVED)))
		return has_observed_socket(step->ctx, observed, cookie);
	return !observed->released_ns || step->now_ns < observed->released_ns + SWEEP_RELEASED_NS;
}

/*
 * Called for each observed connection. The end of a connection is reported shortly after its
 * socket has left the table. So an entry is given up only by the second pass that does not find the
 * socket.
 */
static __always_inline void sweep_observed(__u64 cookie, struct tproxy_observed *observed,
					   struct sweep_step *step)
{
	step->n_observed++;
	if (observed->netns_cookie == step->netns_cookie)
		step->n++;
	if (cookie % step->parts != step->part ||
	    step->now_ns < observed->started_ns + SWEEP_AGE_NS)
		return;
	if (may_be_alive(observed, cookie, step)) {
		observed->flags &= ~TPROXY_OBSERVED_MISSING;
		return;
	}
	if (observed->flags & TPROXY_OBSERVED_SENT &&
	    !(observed->flags & TPROXY_OBSERVED_MISSING)) {
		observed->flags |= TPROXY_OBSERVED_MISSING;
		return;
	}
	observe_report(cookie, observed,
		       observed->flags & TPROXY_OBSERVED_SENT ? TPROXY_EVENT_UNSEEN
							      : TPROXY_EVENT_NOT_SENT);
	count(TPROXY_STAT_STALE);
}

static long sweep_hashed(void *map, const __u64 *key, struct tproxy_observed *observed,
			 struct sweep_step *step)
{
	sweep_observed(*key, observed, step);
	return 0;
}

/* The atomic read orders the reads that follow, as observed_insert() does the stores. */
static long sweep_slot(void *map, const __u32 *key, struct tproxy_observed_slot *slot,
		       struct sweep_step *step)
{
	__u64 cookie = slot->cookie;

	if (!cookie)
		return 0;
	cookie = __sync_fetch_and_add(&slot->cookie, 0);
	if (cookie && !(cookie & TPROXY_OBSERVED_BUSY))
		sweep_observed(cookie, &slot->conn, step);
	return 0;
}

static __always_inline void sweep_all_observed(struct sweep_step *step)
{
	const struct tproxy_interest *interest = get_interest();
	const __u32 last_s = interest ? *(volatile const __u32 *)&interest->observed_s : 0;

	if (!last_s)
		return;
	bpf_for_each_map_elem(&map_observed_slots, sweep_slot, step, 0);
	bpf_for_each_map_elem(&map_observed, sweep_hashed, step, 0);
	if (!step->n_observed)
		observing_ends(last_s, step->now_ns);
}

/*
 * Runs the next part of a pass. Returns true while parts are left. ctx is the context of a program
 * type that may look up sockets. at_once ignores SWEEP_PAUSE_NS. Two CPUs may run the same part,
 * which is harmless.
 */
static __always_inline bool sweep(void *ctx, __u64 netns_cookie, bool at_once)
{
	struct tproxy_sweep *state;
	struct sweep_step step = {
		.ctx = ctx,
		.netns_cookie = netns_cookie,
		.now_ns = bpf_ktime_get_ns(),
	};

	state = bpf_map_lookup_elem(&map_sweep, &netns_cookie);
	if (!state) {
		bpf_map_update_elem(&map_sweep, &netns_cookie, &sweep_first, BPF_NOEXIST);
		state = bpf_map_lookup_elem(&map_sweep, &netns_cookie);
	}
	if (!state)
		return false;
	/* Otherwise the verifier would walk through the callbacks with 0 and with other numbers. */
	step.n = step.n_observed = verifier_forget(0, step.now_ns);
	step.parts = state->entries / SWEEP_PART + 1;
	step.part = state->part;
	if (step.part >= step.parts)
		step.part = 0;
	if (step.part == 0) {
		if (!at_once && step.now_ns < state->begun_ns + SWEEP_PAUSE_NS)
			return false;
		state->begun_ns = step.now_ns;
		flow_sweep();
		bpf_for_each_map_elem(&map_ports, sweep_port, &step, 0);
	}
	bpf_for_each_map_elem(&map_socks, sweep_sock, &step, 0);
	sweep_all_observed(&step);
	state->entries = (__u32)step.n;
	state->part = step.part + 1;
	return state->part < step.parts;
}

#endif
