/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets: finds the IP header and reads an address of it, and tells control packets from others.
 * Pure: no map, no helper call, no context. The host's compiler builds this file too, for
 * tests/unit and tests/fuzz.
 *
 * packet_open_frame() takes an Ethernet frame, packet_open_ip() a packet that begins with the IP
 * header. Both look at no more than the address needs: a packet that the kernel would accept must
 * not be invalid here, because invalid packets are passed on. Extension headers, options and
 * fragments thus make no difference to the address.
 *
 * A control packet keeps the host reachable and configured, so it passes even if its address is
 * blocked: neighbour discovery and MLD (ICMPv6), IGMP, DHCP. Their hop limits show that they come
 * from this link. packet_is_control() is asked only about a blocked packet. ARP and all other
 * protocols than IP are PACKET_OTHER.
 *
 * Tunnels are not opened: the outer header counts. So does the header of an ICMP error, and not the
 * packet that it quotes.
 */
#ifndef TPROXY_PACKET_BPF_H
#define TPROXY_PACKET_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "tproxy_abi.h"
#include "verifier.bpf.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

enum packet_kind {
	PACKET_IP,
	PACKET_OTHER,	/* no IP */
	PACKET_INVALID, /* cut in the middle of a header, or not the IP version that it must be */
};

enum packet_version {
	PACKET_IPV4 = 4,
	PACKET_IPV6 = 6,
};

/* An IP packet. The fixed part of the header, 20 or 40 bytes, is before end. */
struct packet {
	const __u8 *ip;
	const __u8 *end;
	enum packet_version version;
};

/* VLAN tags in a row. The kernel strips as many as there are VLAN devices. */
#define PACKET_VLAN_TAGS_MAX 4
/* More than the largest offset of an IP header in a frame, and a power of two. */
#define PACKET_IP_OFFSETS 32
/* Extension headers before the one of a control packet. */
#define PACKET_EXTENSIONS_MAX 4

/* Sizes and offsets in headers, and values of their fields. */
enum {
	PACKET_ETH_TYPE = 12,
	PACKET_ETH_LEN = 14,
	PACKET_VLAN_LEN = 4,
	PACKET_TYPE_IPV4 = 0x0800,
	PACKET_TYPE_IPV6 = 0x86dd,
	PACKET_TYPE_VLAN = 0x8100,
	PACKET_TYPE_QINQ = 0x88a8,
	PACKET_TYPE_QINQ_OLD = 0x9100,

	PACKET_IPV4_LEN = 20,
	PACKET_IPV4_FRAGMENT = 6,
	PACKET_IPV4_TTL = 8,
	PACKET_IPV4_PROTOCOL = 9,
	PACKET_IPV4_SADDR = 12,
	PACKET_IPV4_DADDR = 16,
	PACKET_IPV4_FRAGMENT_OFFSET = 0x1fff, /* a mask */

	PACKET_IPV6_LEN = 40,
	PACKET_IPV6_NEXT = 6,
	PACKET_IPV6_HOPS = 7,
	PACKET_IPV6_SADDR = 8,
	PACKET_IPV6_DADDR = 24,
	PACKET_IPV6_FRAGMENT_OFFSET = 0xfff8, /* a mask */

	PACKET_HOP_BY_HOP = 0,
	PACKET_IGMP = 2,
	PACKET_UDP = 17,
	PACKET_ROUTING = 43,
	PACKET_FRAGMENT = 44,
	PACKET_ICMPV6 = 58,
	PACKET_DESTINATION = 60,

	PACKET_MLD_FIRST = 130, /* query, report, done */
	PACKET_MLD_LAST = 132,
	PACKET_ND_FIRST = 133, /* router and neighbour solicitation and advertisement, redirect */
	PACKET_ND_LAST = 137,
	PACKET_MLD2_REPORT = 143,
	PACKET_ND_HOPS = 255, /* RFC 4861, 7.1 */
	PACKET_MLD_HOPS = 1,  /* RFC 2710, 3; of IGMP too */

	PACKET_DHCP_SERVER = 67,
	PACKET_DHCP_CLIENT = 68,
	PACKET_DHCP6_CLIENT = 546,
	PACKET_DHCP6_SERVER = 547,
};

/* Returns the 16-bit number at p, which is in network byte order. */
static __always_inline __u16 packet_u16(const __u8 *p)
{
	return (__u16)(p[0] << 8 | p[1]);
}

static __always_inline bool packet_is_vlan(__u16 type)
{
	return type == PACKET_TYPE_VLAN || type == PACKET_TYPE_QINQ || type == PACKET_TYPE_QINQ_OLD;
}

/* ip: the IP header of a packet that its carrier says to be of this version. */
static __always_inline enum packet_kind
packet_open_ip(const __u8 *ip, const __u8 *end, enum packet_version version, struct packet *ret)
{
	const __u32 len = version == PACKET_IPV4 ? PACKET_IPV4_LEN : PACKET_IPV6_LEN;

	if (ip + len > end || ip[0] >> 4 != version)
		return PACKET_INVALID;
	if (version == PACKET_IPV4 && (ip[0] & 0xf) < PACKET_IPV4_LEN / 4)
		return PACKET_INVALID;
	ret->ip = ip;
	ret->end = end;
	ret->version = version;
	return PACKET_IP;
}

/* data: an Ethernet frame. *ret is set for PACKET_IP only. */
static __always_inline enum packet_kind packet_open_frame(const __u8 *data, const __u8 *end,
							  struct packet *ret)
{
	const __u8 *at = data + PACKET_ETH_TYPE;
	__u64 offset;
	__u16 type;
	int i;

	if (data + PACKET_ETH_LEN > end)
		return PACKET_INVALID;
	type = packet_u16(at);
	for (i = 0; i < PACKET_VLAN_TAGS_MAX && packet_is_vlan(type); i++) {
		at += PACKET_VLAN_LEN;
		if (at + sizeof(type) > end)
			return PACKET_INVALID;
		type = packet_u16(at);
	}
	/* One path for the verifier, whatever the number of tags. */
	offset = verifier_forget((__u64)(at - data) + sizeof(type), type);
	at = data + offset % PACKET_IP_OFFSETS;
	if (type == PACKET_TYPE_IPV4)
		return packet_open_ip(at, end, PACKET_IPV4, ret);
	if (type == PACKET_TYPE_IPV6)
		return packet_open_ip(at, end, PACKET_IPV6, ret);
	return PACKET_OTHER;
}

/*
 * Reads the source or the destination as a key of the tries of the block list: all of its bits, and
 * IPv4 in mapped form.
 */
static __always_inline void packet_address(const struct packet *packet, bool source,
					   struct tproxy_prefix *ret)
{
	const __u8 *ip = packet->ip;

	ret->n_bits = 128;
	if (packet->version == PACKET_IPV4) {
		__builtin_memset(ret->addr, 0, 8);
		__builtin_memset(&ret->addr[8], 0, 2);
		__builtin_memset(&ret->addr[10], 0xff, 2);
		__builtin_memcpy(&ret->addr[12],
				 ip + (source ? PACKET_IPV4_SADDR : PACKET_IPV4_DADDR), 4);
		return;
	}
	__builtin_memcpy(ret->addr, ip + (source ? PACKET_IPV6_SADDR : PACKET_IPV6_DADDR), 16);
}

/* at: a UDP header. Servers and relays talk to each other from the port of a server. */
static __always_inline bool packet_is_dhcp(const __u8 *at, const __u8 *end, __u16 client,
					   __u16 server)
{
	__u16 from, to;

	if (at + 4 > end)
		return false;
	from = packet_u16(at);
	to = packet_u16(at + 2);
	return (from == server && (to == client || to == server)) ||
	       (from == client && to == server);
}

/* at: an ICMPv6 header. */
static __always_inline bool packet_is_link_control(const __u8 *at, const __u8 *end, __u8 hops)
{
	__u8 type;

	if (at + 1 > end)
		return false;
	type = at[0];
	if (type >= PACKET_ND_FIRST && type <= PACKET_ND_LAST)
		return hops == PACKET_ND_HOPS;
	if ((type >= PACKET_MLD_FIRST && type <= PACKET_MLD_LAST) || type == PACKET_MLD2_REPORT)
		return hops == PACKET_MLD_HOPS;
	return false;
}

static __always_inline bool packet_is_control4(const __u8 *ip, const __u8 *end)
{
	const __u32 len = 4 * (ip[0] & 0xf);

	if (packet_u16(ip + PACKET_IPV4_FRAGMENT) & PACKET_IPV4_FRAGMENT_OFFSET)
		return false;
	if (ip[PACKET_IPV4_PROTOCOL] == PACKET_IGMP)
		return ip[PACKET_IPV4_TTL] == PACKET_MLD_HOPS;
	return ip[PACKET_IPV4_PROTOCOL] == PACKET_UDP &&
	       packet_is_dhcp(ip + len, end, PACKET_DHCP_CLIENT, PACKET_DHCP_SERVER);
}

static __always_inline bool packet_is_control6(const __u8 *ip, const __u8 *end)
{
	const __u8 *at = ip + PACKET_IPV6_LEN;
	__u8 next = ip[PACKET_IPV6_NEXT];
	int i;

	for (i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
		if (next != PACKET_HOP_BY_HOP && next != PACKET_ROUTING &&
		    next != PACKET_DESTINATION && next != PACKET_FRAGMENT)
			break;
		if (at + 8 > end)
			return false;
		if (next == PACKET_FRAGMENT) {
			if (packet_u16(at + 2) & PACKET_IPV6_FRAGMENT_OFFSET)
				return false;
			next = at[0];
			at += 8;
		} else {
			next = at[0];
			at += 8 + 8 * at[1];
		}
	}
	if (next == PACKET_ICMPV6)
		return packet_is_link_control(at, end, ip[PACKET_IPV6_HOPS]);
	return next == PACKET_UDP &&
	       packet_is_dhcp(at, end, PACKET_DHCP6_CLIENT, PACKET_DHCP6_SERVER);
}

static __always_inline bool packet_is_control(const struct packet *packet)
{
	return packet->version == PACKET_IPV4 ? packet_is_control4(packet->ip, packet->end)
					      : packet_is_control6(packet->ip, packet->end);
}

#endif
