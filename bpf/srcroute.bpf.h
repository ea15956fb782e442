/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Source routes: finds the final destination of a packet whose IP header names only the next hop.
 * Pure, like packet.bpf.h: the includer defines srcroute_load().
 *
 * IPv4 has the options LSRR and SSRR, IPv6 the routing headers of type 2 and, with segment routing,
 * of type 4. Any user may ask for them with setsockopt(2) or sendmsg(2). Type 0 is read too. Linux
 * takes other types from no user, and the hops between the first one and the last one are not read.
 *
 * A route that is used up, or that is cut, is none: the address of the IP header is the final one.
 */
#ifndef TPROXY_SRCROUTE_BPF_H
#define TPROXY_SRCROUTE_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "packet.bpf.h"
#include "tproxy_abi.h"

/* Bytes of options in a header of IPv4, each of which may be an option. */
#define SRCROUTE_OPTIONS_MAX 40

/* Options, types of routing headers, and sizes. */
enum {
	SRCROUTE_END = 0,
	SRCROUTE_NOP = 1,
	SRCROUTE_LSRR = 131,
	SRCROUTE_SSRR = 137,
	SRCROUTE_TYPE_0 = 0,
	SRCROUTE_MOBILE = 2,
	SRCROUTE_SEGMENTS = 4,
	SRCROUTE_LEAST = 2, /* length of a routing header with one address */
};

/* Copies bytes of the packet, which begins with the IP header. Returns 0, or else it ends before.
 */
static __always_inline int srcroute_load(const void *packet, __u32 at, void *ret, __u32 size);

/* True if the packet has options, or extension headers that may be a source route. */
static __always_inline bool srcroute_is_possible(const struct packet *packet)
{
	const __u8 next = packet->ip[PACKET_IPV6_NEXT];

	if (packet->version == PACKET_IPV4)
		return (packet->ip[0] & 0xf) > PACKET_IPV4_LEN / 4;
	return next == PACKET_ROUTING || next == PACKET_HOP_BY_HOP || next == PACKET_DESTINATION;
}

static __always_inline bool srcroute_find4(const void *packet, __u8 ret[4])
{
	__u8 first, option[3]; /* type, length; of a route: where the next address is, from 1 */
	__u32 at = PACKET_IPV4_LEN, end;
	int i;

	if (srcroute_load(packet, 0, &first, sizeof(first)))
		return false;
	end = 4 * (first & 0xf);
	for (i = 0; i < SRCROUTE_OPTIONS_MAX; i++) {
		if (at + sizeof(option) > end || srcroute_load(packet, at, option, sizeof(option)))
			return false;
		if (option[0] == SRCROUTE_NOP) {
			at++;
			continue;
		}
		if (option[0] == SRCROUTE_END || option[1] < 2 || at + option[1] > end)
			return false;
		if (option[0] == SRCROUTE_LSRR || option[0] == SRCROUTE_SSRR)
			return option[2] > 3 && option[2] + 3 <= option[1] &&
			       !srcroute_load(packet, at + option[1] - 4, ret, 4);
		at += option[1];
	}
	return false;
}

static __always_inline bool srcroute_find6(const void *packet, __u8 ret[16])
{
	__u8 next, header[4]; /* next, length; of a route: type, how many addresses are left */
	__u32 at = PACKET_IPV6_LEN;
	int i;

	if (srcroute_load(packet, PACKET_IPV6_NEXT, &next, sizeof(next)))
		return false;
	for (i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
		if ((next != PACKET_ROUTING && next != PACKET_HOP_BY_HOP &&
		     next != PACKET_DESTINATION) ||
		    srcroute_load(packet, at, header, sizeof(header)))
			return false;
		if (next == PACKET_ROUTING)
			break;
		next = header[0];
		at += 8 + 8 * header[1];
	}
	if (next != PACKET_ROUTING || !header[3] || header[1] < SRCROUTE_LEAST)
		return false;
	/* The segments are in reverse order. */
	if (header[2] == SRCROUTE_SEGMENTS)
		at += 8;
	else if (header[2] == SRCROUTE_TYPE_0 || header[2] == SRCROUTE_MOBILE)
		at += 8 * header[1] - 8;
	else
		return false;
	return !srcroute_load(packet, at, ret, 16);
}

/*
 * Reads the final destination as packet_address() does. Returns false if the packet has no source
 * route; then *ret is undefined.
 */
static __always_inline bool srcroute_find(const void *packet, enum packet_version version,
					  struct tproxy_prefix *ret)
{
	*ret = (struct tproxy_prefix){ .n_bits = 128, .addr = { [10] = 0xff, [11] = 0xff } };
	return version == PACKET_IPV4 ? srcroute_find4(packet, &ret->addr[12])
				      : srcroute_find6(packet, ret->addr);
}

#endif
