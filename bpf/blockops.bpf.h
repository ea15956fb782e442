/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The places that apply the block list (block.bpf.h):
 *
 *   connect     TCP connect() in a scope, by destination. Fails the call with the list's errno.
 *   block_in    packets to the sockets of scopes and relays, by source
 *   block_out   packets of these sockets, by destination: the next hop, and the final one
 *   xdp         packets that an interface receives, by source
 *
 * Nothing comes from a blocked address, and nothing goes to it, on connections that exist already
 * too. The relay's packets are no exception: they are those of redirected connections. connect
 * refuses first, so that a program gets an error instead of a timeout. A connect() that was under
 * way when the address was blocked waits for its timeout, because no hook of packets can fail it.
 * A datagram that block_out drops fails the call with EPERM.
 *
 * map_block.state is read once for each packet or connect(). It is 0 while the list is empty and no
 * traffic is counted. A slot without a trie blocks nothing. An address that passes is remembered
 * (passed.bpf.h), and is not looked up again before the next change of the list.
 */
#ifndef TPROXY_BLOCKOPS_BPF_H
#define TPROXY_BLOCKOPS_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "block.bpf.h"
#include "endpoint.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "packet.bpf.h"
#include "passed.bpf.h"
#include "srcroute.bpf.h"
#include "tproxy_abi.h"
#include "traffic.bpf.h"

/* Return values of cgroup_skb programs. 2 and 3 would signal congestion. */
enum {
	SKB_DROP = 0,
	SKB_PASS = 1,
};

/* Index of lo, in each network namespace. */
#define BLOCK_IFINDEX_LO 1
#define BLOCK_SECOND_NS	 1000000000ULL

static __always_inline struct tproxy_block_entry *block_lookup(void *trie,
							       const struct tproxy_prefix *key)
{
	return bpf_map_lookup_elem(trie, key);
}

static __always_inline __u64 block_now(void)
{
	return bpf_ktime_get_coarse_ns();
}

/* Returns the list in force, which the caller reads with block_head(). */
static __always_inline const struct tproxy_block *get_block(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&map_block, &key);
}

/* What is read once for each packet or connect(). */
struct block_head {
	__u32 state;
	__u32 changes;
};

static __always_inline struct block_head block_head(const struct tproxy_block *block)
{
	struct tproxy_block copy = {};

	if (block)
		copy.state_and_changes = *(const volatile __u64 *)&block->state_and_changes;
	return (struct block_head){ copy.state, copy.changes };
}

/* Returns the number for passed.bpf.h; 0 while a command changes tries in use. */
static __always_inline __u32 block_changes(struct block_head head)
{
	/* No branch, which would be two paths for the verifier. */
	return head.changes & ((head.state / TPROXY_BLOCK_CHANGING & 1) - 1);
}

static __always_inline void *block_trie(__u32 state, enum tproxy_block_kind kind)
{
	__u32 key = TPROXY_BLOCK_TRIE(state & TPROXY_BLOCK_SLOT ? 1 : 0, kind);

	return bpf_map_lookup_elem(&map_block_tries, &key);
}

static __always_inline void block_count_entry(struct tproxy_block_entry *entry, __u64 packets,
					      __u64 bytes)
{
	__sync_fetch_and_add(&entry->packets, packets);
	__sync_fetch_and_add(&entry->bytes, bytes);
	entry->last_ns = bpf_ktime_get_coarse_ns();
}

static __always_inline struct tproxy_block_stat *block_stat(enum tproxy_place place)
{
	__u32 key = place;

	return bpf_map_lookup_elem(&map_block_stats, &key);
}

/*
 * Adds to a counter of this CPU. Atomically, because a softirq may interrupt a process that sends;
 * nothing interrupts xdp.
 */
static __always_inline void block_add(enum tproxy_place place, __u64 *counter, __u64 n)
{
	if (place == TPROXY_PLACE_XDP)
		*counter += n;
	else
		__sync_fetch_and_add(counter, n);
}

/* One packet, or segments that the kernel handles as one; or one connect(). */
struct block_load {
	__u64 packets, bytes;
};

/*
 * Counts one more packet or connect(). Returns true if its address passes, as a look-up has said
 * since the last change of the list.
 */
static __always_inline bool block_is_passed(struct block_head head, enum tproxy_place place,
					    const struct tproxy_prefix *key,
					    const struct block_load *load)
{
	struct tproxy_block_stat *stat = block_stat(place);

	if (!stat)
		return true;
	block_add(place, &stat->seen, load->packets);
	return passed_has(block_changes(head), key);
}

/*
 * Looks up an address that is not remembered, and counts. control: it is a control packet. Returns
 * true if it is blocked. The state must have ENTRIES.
 */
static __always_inline bool block_look_up(struct block_head head, enum tproxy_place place,
					  bool control, struct tproxy_prefix *key,
					  const struct block_load *load)
{
	struct tproxy_block_stat *stat = block_stat(place);
	struct tproxy_block_entry *entry = NULL;
	enum block_verdict verdict;
	struct block_tries tries = {};

	passed_barrier();
	tries.block = block_trie(head.state, TPROXY_BLOCK);
	if (head.state & TPROXY_BLOCK_ALLOWS)
		tries.allow = block_trie(head.state, TPROXY_ALLOW);
	if (!stat || !tries.block)
		return false;
	verdict = block_decide(&tries, key, &entry);
	if (verdict == BLOCK_PASS)
		passed_add(block_changes(head), key);
	if (verdict == BLOCK_PASS || !entry)
		return false;
	if (verdict == BLOCK_DROP && control) {
		block_add(place, &stat->control, load->packets);
		return false;
	}
	block_count_entry(entry, load->packets, load->bytes);
	if (verdict == BLOCK_ALLOWED) {
		block_add(place, &stat->allowed, load->packets);
		return false;
	}
	block_add(place, &stat->dropped, load->packets);
	block_add(place, &stat->dropped_bytes, load->bytes);
	return true;
}

/*
 * block_look_up() of a packet. A global function, see rules_find(): the verifier walks through it
 * once, and not again for each IP version and place where the header may begin.
 */
__attribute__((noinline)) int block_packet(const struct block_head *head, __u32 place,
					   __u32 control, const struct tproxy_prefix *key,
					   const struct block_load *load)
{
	struct tproxy_prefix own;

	if (!head || !key || !load)
		return 0;
	own = *key; /* Linux 6.1 takes no argument of a global function as a key */
	return block_look_up(*head, (enum tproxy_place)place, control, &own, load);
}

/* Returns true if a packet is blocked. The state must have ENTRIES. */
static __always_inline bool block_check(const struct block_head *head, enum tproxy_place place,
					const struct packet *packet, bool source,
					const struct block_load *load)
{
	struct tproxy_prefix key;

	packet_address(packet, source, &key);
	if (block_is_passed(*head, place, &key, load))
		return false;
	return block_packet(head, place, packet_is_control(packet), &key, load);
}

static __always_inline int srcroute_load(const void *packet, __u32 at, void *ret, __u32 size)
{
	return (int)bpf_skb_load_bytes(packet, at, ret, size);
}

/*
 * Checks the final destination of a packet that has a source route. Returns true if it is blocked.
 * A global function, see rules_find().
 */
__attribute__((noinline)) int block_routed(struct __sk_buff *skb, const struct block_head *head,
					   const struct block_load *load)
{
	const enum packet_version version =
		skb->protocol == bpf_htons(ETH_P_IP) ? PACKET_IPV4 : PACKET_IPV6;
	struct tproxy_prefix key;

	if (!head || !load || !srcroute_find(skb, version, &key))
		return 0;
	return block_packet(head, TPROXY_PLACE_EGRESS, /* control= */ false, &key, load);
}

/*
 * Checks the destination of a connect(). Returns the errno, or 0 if it is not blocked. A global
 * function, see rules_find().
 */
__attribute__((noinline)) int block_connect(const struct tproxy_endpoint *dst)
{
	const struct tproxy_block *block = get_block();
	const struct block_load load = { .packets = 1 };
	const struct block_head head = block_head(block);
	struct tproxy_prefix key;

	if (!dst || !block || !(head.state & TPROXY_BLOCK_ENTRIES))
		return 0;
	__builtin_memcpy(key.addr, dst->addr, sizeof(key.addr));
	if (block_is_passed(head, TPROXY_PLACE_CONNECT, &key, &load) ||
	    !block_look_up(head, TPROXY_PLACE_CONNECT, /* control= */ false, &key, &load))
		return 0;
	return (int)block_error_of(block, head.state);
}

/*
 * Limits the reports of refused connects: a program that tries again and again must not fill the
 * ring, where the ends of observed connections wait. Not exact, as CPUs do not wait for each other.
 */
static __u64 block_second;
static __u32 block_reports;

static __always_inline bool block_may_report(__u64 now_ns)
{
	if (now_ns - block_second > BLOCK_SECOND_NS) {
		block_second = now_ns;
		block_reports = 0;
	}
	return block_reports < TPROXY_BLOCKED_EVENTS_MAX &&
	       __sync_fetch_and_add(&block_reports, 1) < TPROXY_BLOCKED_EVENTS_MAX;
}

/*
 * Reports a refused connect() to the log of a relay. A report without room is dropped, and the
 * counters have it all the same. A global function, see rules_find().
 */
__attribute__((noinline)) int block_report(__u64 cookie, __u64 netns_cookie,
					   const struct tproxy_endpoint *dst, __u32 error)
{
	const __u64 now_ns = bpf_ktime_get_ns();
	struct tproxy_event *event;

	if (!dst || !block_may_report(now_ns))
		return 0;
	event = bpf_ringbuf_reserve(&map_events, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->conn.started_ns = event->ended_ns = now_ns;
	event->conn.netns_cookie = netns_cookie;
	event->conn.cgroup_id = bpf_get_current_cgroup_id();
	event->conn.pid = bpf_get_current_pid_tgid() >> 32;
	event->conn.uid = (__u32)bpf_get_current_uid_gid();
	read_leader_comm(event->conn.comm);
	event->conn.dst = *dst;
	event->conn.rule_counter = TPROXY_NO_RULE;
	event->cookie = cookie;
	event->rtt_min_us = ~0U;
	event->error = (__u16)error;
	event->state = TPROXY_EVENT_BLOCKED;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* True if the list has entries. All that a connect() pays for an empty list. */
static __always_inline bool is_blocking(void)
{
	return block_head(get_block()).state & TPROXY_BLOCK_ENTRIES;
}

static __always_inline void block_count_other(enum tproxy_place place)
{
	struct tproxy_block_stat *stat = block_stat(place);

	if (stat)
		block_add(place, &stat->seen, 1);
}

static __always_inline void block_count_invalid(enum tproxy_place place, __u64 packets)
{
	struct tproxy_block_stat *stat = block_stat(place);

	if (!stat)
		return;
	block_add(place, &stat->seen, packets);
	block_add(place, &stat->invalid, packets);
}

/* True if a packet of a socket is blocked. */
static __always_inline bool block_skb_is_blocked(struct __sk_buff *skb,
						 const struct block_head *head, bool in,
						 const struct block_load *load)
{
	const __u8 *data = (const __u8 *)(long)skb->data, *end = (const __u8 *)(long)skb->data_end;
	const enum tproxy_place place = in ? TPROXY_PLACE_INGRESS : TPROXY_PLACE_EGRESS;
	enum packet_version version;
	struct packet packet;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		version = PACKET_IPV4;
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		version = PACKET_IPV6;
	else
		return false;
	if (packet_open_ip(data, end, version, &packet) != PACKET_IP) {
		block_count_invalid(place, load->packets);
		return false;
	}
	if (block_check(head, place, &packet, /* source= */ in, load))
		return true;
	return !in && srcroute_is_possible(&packet) && block_routed(skb, head, load);
}

/* block_in and block_out. Returns the program's return value. */
static __always_inline int block_skb(struct __sk_buff *skb, bool in)
{
	const struct block_head head = block_head(get_block());
	struct block_load load;

	if (!(head.state & (TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_TRAFFIC)))
		return SKB_PASS;
	load.packets = skb->gso_segs ? skb->gso_segs : 1;
	load.bytes = skb->len;
	if (head.state & TPROXY_BLOCK_ENTRIES && skb->ifindex != BLOCK_IFINDEX_LO &&
	    block_skb_is_blocked(skb, &head, in, &load))
		return SKB_DROP;
	if (head.state & TPROXY_BLOCK_TRAFFIC)
		traffic_count(skb, in);
	return SKB_PASS;
}

/* Returns XDP_PASS or XDP_DROP. The headers are in the first buffer of a frame. */
static __always_inline int block_xdp(struct xdp_md *xdp)
{
	const __u8 *data = (const __u8 *)(long)xdp->data, *end = (const __u8 *)(long)xdp->data_end;
	const struct block_head head = block_head(get_block());
	struct block_load load;
	struct packet packet;

	if (!(head.state & TPROXY_BLOCK_ENTRIES) || xdp->ingress_ifindex == BLOCK_IFINDEX_LO)
		return XDP_PASS;
	load.packets = 1;
	load.bytes = bpf_xdp_get_buff_len(xdp);
	switch (packet_open_frame(data, end, &packet)) {
	case PACKET_IP:
		break;
	case PACKET_INVALID:
		block_count_invalid(TPROXY_PLACE_XDP, 1);
		return XDP_PASS;
	default:
		block_count_other(TPROXY_PLACE_XDP);
		return XDP_PASS;
	}
	return block_check(&head, TPROXY_PLACE_XDP, &packet, /* source= */ true, &load) ? XDP_DROP
											: XDP_PASS;
}

#endif
