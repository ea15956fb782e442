// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The filter of `tproxyctl capture`: a socket filter on a packet socket. It keeps a packet if its
 * addresses are in map_flows, one way or the other, and the connection is not in map_unwanted. An
 * object of its own, loaded by each capture for its network namespace; nothing is pinned.
 *
 * The filter reads from the network header on (BPF_HDR_START_NET). Loopback, Ethernet and tagged
 * frames thus look alike, and so do the packet sockets that leave the link header out.
 *
 * A packet on lo passes the tap twice, when it is sent and when it is received. The first one is
 * dropped. So both directions arrive there as received packets, and both orders of the addresses
 * have to be looked up. On other interfaces the packet's own direction tells which order it is.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "tproxy_abi.h"

#define LOOPBACK_IFINDEX 1 /* of lo in every network namespace */

/* Extension headers of IPv6 that may precede TCP. */
#define IPV6_EXTENSIONS_MAX 4
#define NEXT_HOP_OPTIONS    0
#define NEXT_ROUTING	    43
#define NEXT_DESTINATION    60

/* Reads @len bytes at @offset from the network header on. Returns true if they are there. */
#define READ(skb, offset, to, len)                                                                 \
	(bpf_skb_load_bytes_relative(skb, offset, to, len, BPF_HDR_START_NET) == 0)

/* Set by the loader. */
const volatile __u64 netns_cookie = 0;
const volatile __u32 snap_length = 0; /* bytes of a packet that are kept */

/*
 * Filter options: a connection passes if, for each kind that has values, one of them fits. Kinds
 * with more values, and all others, are left to user space, see map_unwanted. A command is compared
 * in two words under a mask: its bytes and the NUL after them, or those before '*'.
 */
#define VALUES_MAX 4

const volatile __u32 n_pids = 0, n_uids = 0, n_ports = 0, n_commands = 0;
const volatile __u32 pids[VALUES_MAX] = {}, uids[VALUES_MAX] = {};
const volatile __u16 first_ports[VALUES_MAX] = {}, last_ports[VALUES_MAX] = {};
const volatile __u64 commands[VALUES_MAX][2] = {}, command_masks[VALUES_MAX][2] = {};

/* As the pinned map, whose descriptor the loader puts here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TPROXY_FLOWS_MAX);
	__type(key, struct tproxy_flow_key);
	__type(value, struct tproxy_flow);
} map_flows SEC(".maps");

/*
 * Connections that this capture does not want: cookie -> 1. Written by `tproxyctl capture`, whose
 * filter options are more than a program can test. LRU: a connection whose entry is evicted is
 * tested again there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u32);
} map_unwanted SEC(".maps");

/* The addresses of a packet, in its own direction. */
struct packet {
	struct tproxy_endpoint src, dst;
};

static __always_inline bool read_ports(struct __sk_buff *skb, __u32 offset, struct packet *p)
{
	__be16 ports[2];

	if (!READ(skb, offset, ports, sizeof(ports)))
		return false;
	p->src.port = bpf_ntohs(ports[0]);
	p->dst.port = bpf_ntohs(ports[1]);
	return true;
}

/* Later fragments have no ports; they are not captured. */
static __always_inline bool read_ipv4(struct __sk_buff *skb, __u8 first, struct packet *p)
{
	__be32 ip[2];
	__be16 fragment;
	__u8 protocol;

	if (!READ(skb, 9, &protocol, sizeof(protocol)) || protocol != IPPROTO_TCP ||
	    !READ(skb, 6, &fragment, sizeof(fragment)) || fragment & bpf_htons(0x1fff) ||
	    !READ(skb, 12, ip, sizeof(ip)))
		return false;
	endpoint_set4(&p->src, ip[0], 0);
	endpoint_set4(&p->dst, ip[1], 0);
	return read_ports(skb, (first & 0xf) * 4, p);
}

static __always_inline bool read_ipv6(struct __sk_buff *skb, struct packet *p)
{
	__be32 ip[8];
	__u8 next, header[2];
	__u32 offset = 40;
	int i;

	if (!READ(skb, 6, &next, sizeof(next)) || !READ(skb, 8, ip, sizeof(ip)))
		return false;
	for (i = 0; i < IPV6_EXTENSIONS_MAX && next != IPPROTO_TCP; i++) {
		if ((next != NEXT_HOP_OPTIONS && next != NEXT_ROUTING &&
		     next != NEXT_DESTINATION) ||
		    !READ(skb, offset, header, sizeof(header)))
			return false;
		next = header[0];
		offset += (header[1] + 1) * 8;
	}
	if (next != IPPROTO_TCP)
		return false;
	endpoint_set6(&p->src, &ip[0], 0);
	endpoint_set6(&p->dst, &ip[4], 0);
	return read_ports(skb, offset, p);
}

static __always_inline bool fits(const volatile __u32 *values, __u32 n, __u32 number)
{
	bool fit = n == 0;
	__u32 i;

	for (i = 0; i < VALUES_MAX; i++)
		fit |= i < n && values[i] == number;
	return fit;
}

static __always_inline bool passes(const struct tproxy_flow *flow)
{
	bool port = n_ports == 0, command = n_commands == 0;
	__u64 words[2];
	__u32 i;

	__builtin_memcpy(words, flow->comm, sizeof(words));
	for (i = 0; i < VALUES_MAX; i++) {
		port |= i < n_ports && flow->dst.port >= first_ports[i] &&
			flow->dst.port <= last_ports[i];
		command |= i < n_commands && (words[0] & command_masks[i][0]) == commands[i][0] &&
			   (words[1] & command_masks[i][1]) == commands[i][1];
	}
	return port && command && fits(pids, n_pids, flow->pid) && fits(uids, n_uids, flow->uid);
}

static __always_inline bool is_wanted(const struct tproxy_endpoint *local,
				      const struct tproxy_endpoint *remote)
{
	struct tproxy_flow_key key = { .netns_cookie = netns_cookie,
				       .local = *local,
				       .remote = *remote };
	const struct tproxy_flow *flow = bpf_map_lookup_elem(&map_flows, &key);
	__u64 cookie;

	if (!flow || !passes(flow))
		return false;
	cookie = flow->cookie;
	return !bpf_map_lookup_elem(&map_unwanted, &cookie);
}

SEC("socket")
int tproxy_capture(struct __sk_buff *skb)
{
	const bool lo = skb->ifindex == LOOPBACK_IFINDEX;
	const bool outgoing = skb->pkt_type == PACKET_OUTGOING;
	struct packet p = {};
	__u8 first;

	if (lo && outgoing)
		return 0;
	if (!READ(skb, 0, &first, sizeof(first)))
		return 0;
	if (first >> 4 == 4 ? !read_ipv4(skb, first, &p) : first >> 4 != 6 || !read_ipv6(skb, &p))
		return 0;
	if ((lo || outgoing) && is_wanted(&p.src, &p.dst))
		return (int)snap_length;
	if (!outgoing && is_wanted(&p.dst, &p.src))
		return (int)snap_length;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
