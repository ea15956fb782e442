/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which listener of a relay's pair gets a segment. The relay attaches this program to its own two
 * sockets, so it runs for their port only, and for nothing else on the host. The kernel has
 * given segments of connections to their sockets before: a listener gets SYNs, and ACKs that answer
 * SYN cookies.
 *
 * The real listener accepts. The sink swallows: the relay has set IP_MINTTL and IPV6_MINHOPCOUNT to
 * 255 there, which the SYN of a host that has the usual 64 does not meet. The client then waits and
 * sends its SYN again. SK_DROP lets the kernel find no socket: it answers with a reset, and
 * connect() fails with ECONNREFUSED.
 */
#ifndef TPROXY_PICK_BPF_H
#define TPROXY_PICK_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "maps.bpf.h"
#include "pending.bpf.h"
#include "stats.bpf.h"
#include "tproxy_abi.h"

#define PICK_SYN	0x02
#define PICK_SYN_OR_ACK 0x12

enum pick {
	PICK_REAL,
	PICK_SINK,
	PICK_RESET,
};

/* The first bytes of a TCP header. */
struct pick_tcp {
	__be16 source, dest;
	__be32 seq, ack_seq;
	__u8 data_offset; /* in the upper four bits, in words */
	__u8 flags;
};

struct pick_segment {
	struct tproxy_tuple tuple;
	__u8 ttl;
	__u8 flags; /* of TCP */
	bool has_data;
};

/* Reads addresses and TTL. Returns false for a header that is cut. */
static __always_inline bool pick_read_ip(struct sk_reuseport_md *ctx, const struct pick_tcp *tcp,
					 struct pick_segment *segment)
{
	const __u16 source = bpf_ntohs(tcp->source), dest = bpf_ntohs(tcp->dest);
	__be32 ip[8];

	if (ctx->eth_protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes_relative(ctx, 12, ip, 8, BPF_HDR_START_NET) ||
		    bpf_skb_load_bytes_relative(ctx, 8, &segment->ttl, 1, BPF_HDR_START_NET))
			return false;
		endpoint_set4(&segment->tuple.src, ip[0], source);
		endpoint_set4(&segment->tuple.dst, ip[1], dest);
		return true;
	}
	if (bpf_skb_load_bytes_relative(ctx, 8, ip, sizeof(ip), BPF_HDR_START_NET) ||
	    bpf_skb_load_bytes_relative(ctx, 7, &segment->ttl, 1, BPF_HDR_START_NET))
		return false;
	endpoint_set6(&segment->tuple.src, ip, source);
	endpoint_set6(&segment->tuple.dst, ip + 4, dest);
	return true;
}

static __always_inline bool pick_read(struct sk_reuseport_md *ctx, struct pick_segment *segment)
{
	struct pick_tcp tcp;

	if (bpf_skb_load_bytes(ctx, 0, &tcp, 14) || !pick_read_ip(ctx, &tcp, segment))
		return false;
	segment->tuple.isn = bpf_ntohl(tcp.seq);
	segment->flags = tcp.flags;
	segment->has_data = ctx->len > (__u32)(tcp.data_offset >> 4) * 4;
	return true;
}

/*
 * The sink would answer this SYN, or there is none yet. If a relay dials already, because the
 * program has changed the TTL meanwhile, it is told to stop: it dials again once it has accepted.
 */
static __always_inline enum pick pick_accept(struct tproxy_pending *slot, __u32 index, __u64 word,
					     const struct pick_segment *segment)
{
	/* The client has just ended, and so gets no answer that it would act on. */
	if (!pending_swap(slot, word, TPROXY_PENDING_ACCEPT))
		return PICK_RESET;
	count(segment->has_data ? TPROXY_STAT_HONEST_DATA : TPROXY_STAT_HONEST_TTL);
	if (tproxy_pending_is_notified(TPROXY_WORD_LOW(word)))
		pending_notify(slot->ring, TPROXY_PENDING_GONE, index,
			       TPROXY_WORD_GENERATION(word));
	return PICK_REAL;
}

static __always_inline bool pick_select(struct sk_reuseport_md *ctx, __u32 key)
{
	return !bpf_sk_select_reuseport(ctx, &map_pairs, &key, 0);
}

/* Decides for a slot in the state WAITS, NOTIFIED or JOINING, to which the relay has not answered.
 */
static __always_inline enum pick pick_pending(struct tproxy_pending *slot, __u32 index, __u64 word,
					      const struct pick_segment *segment, bool has_sink)
{
	const __u64 generation = TPROXY_WORD_GENERATION(word);

	if (segment->ttl == 255 || segment->has_data || !has_sink)
		return pick_accept(slot, index, word, segment);
	if (TPROXY_WORD_LOW(word) != TPROXY_PENDING_WAITS)
		return PICK_SINK;
	slot->since_ns = bpf_ktime_get_ns();
	if (!pending_swap(slot, word, TPROXY_PENDING_NOTIFIED))
		return PICK_SINK;
	if (!pending_notify(slot->ring, TPROXY_PENDING_SYN, index, generation)) {
		count(TPROXY_STAT_HONEST_RING_FULL);
		pending_swap(slot, TPROXY_WORD(generation, TPROXY_PENDING_NOTIFIED),
			     TPROXY_PENDING_WAITS);
	}
	return PICK_SINK;
}

static __always_inline enum pick pick_by_slot(struct tproxy_pending *slot, __u32 index,
					      __u64 generation, const struct pick_segment *segment,
					      bool has_sink)
{
	const __u64 word = pending_word(slot);

	if (TPROXY_WORD_GENERATION(word) != generation)
		return PICK_RESET;
	switch (TPROXY_WORD_LOW(word)) {
	case TPROXY_PENDING_WAITS:
	case TPROXY_PENDING_NOTIFIED:
	case TPROXY_PENDING_JOINING:
		switch (slot_answer(pending_verdict(index), generation)) {
		case TPROXY_ANSWER_FAILED:
			return PICK_RESET;
		case TPROXY_ANSWER_ACCEPT:
			return PICK_REAL;
		default:
			return pick_pending(slot, index, word, segment, has_sink);
		}
	case TPROXY_PENDING_ACCEPT:
		return PICK_REAL;
	case TPROXY_PENDING_ESTABLISHED:
		return PICK_SINK;
	default:
		return PICK_RESET;
	}
}

/*
 * The SYN of a connection that has, or had, a slot. It gets the pair with which the slot was
 * claimed: listeners of several relays may share a port. The kernel refuses a socket of another
 * port. If that pair is closed, the relay that has replaced its owner accepts. If the connection is
 * to be accepted and the real listener is not there yet, the sink swallows this SYN.
 */
static __always_inline int pick_waiting(struct sk_reuseport_md *ctx, const struct tproxy_conn *conn,
					const struct tproxy_listener *listener,
					const struct pick_segment *segment)
{
	const __u32 index = conn->pending - 1;
	struct tproxy_pending *slot = pending_at(index);
	bool has_sink;

	if (!slot)
		return SK_DROP;
	has_sink = pick_select(ctx, TPROXY_PAIR_SINK(slot->pair));
	switch (pick_by_slot(slot, index, conn->generation, segment, has_sink)) {
	case PICK_REAL:
		if (!pick_select(ctx, TPROXY_PAIR_REAL(slot->pair)) &&
		    listener->flags & TPROXY_LISTENER_CAPABLE)
			pick_select(ctx, TPROXY_PAIR_REAL(listener->pair));
		return SK_PASS;
	case PICK_SINK:
		return has_sink ? SK_PASS : SK_DROP;
	default:
		return SK_DROP;
	}
}

static __always_inline int pick_run(struct sk_reuseport_md *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx->sk);
	const struct tproxy_listener *listener = bpf_map_lookup_elem(&map_listeners, &cookie);
	struct pick_segment segment = {};
	const struct tproxy_conn *conn;
	const __u64 *found;

	/*
	 * This listener is being closed, and the kernel still finds it first. With SK_PASS the
	 * kernel takes any other listener of the port: that of the relay which replaces this one.
	 */
	if (!listener)
		return SK_PASS;
	segment.tuple.netns_cookie = listener->netns_cookie;
	if (!pick_read(ctx, &segment))
		return SK_DROP;
	if ((segment.flags & PICK_SYN_OR_ACK) == PICK_SYN) {
		found = bpf_map_lookup_elem(&map_ports, &segment.tuple);
		cookie = found ? *found : 0;
		conn = bpf_map_lookup_elem(&map_socks, &cookie);
		if (!conn) {
			count(TPROXY_STAT_HONEST_STRANGER);
			return SK_DROP;
		}
		if (conn->pending)
			return pick_waiting(ctx, conn, listener, &segment);
	}
	/*
	 * If the pair is not complete yet, or this listener is none of a pair, the kernel takes any
	 * listener of the port. The sink of another pair swallows then, and the client tries again.
	 */
	if (listener->flags & TPROXY_LISTENER_CAPABLE)
		pick_select(ctx, TPROXY_PAIR_REAL(listener->pair));
	return SK_PASS;
}

#endif
