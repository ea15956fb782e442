// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf/packet.bpf.h takes any frame without an access beyond its end, and finds what a second parser
 * finds, which reads the structures of the C library at checked offsets. Input: the frame.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdbool.h>

#include "packet.bpf.h"
#include "srcroute.bpf.h"

struct input {
	const uint8_t *data;
	size_t size;
};

/* Copies n bytes at an offset. Returns false if the frame ends before. */
static bool get(const struct input *in, size_t at, void *ret, size_t n)
{
	if (at > in->size || in->size - at < n)
		return false;
	memcpy(ret, in->data + at, n);
	return true;
}

/* packet: the frame from the IP header on. */
static int srcroute_load(const void *packet, __u32 at, void *ret, __u32 size)
{
	return get(packet, at, ret, size) ? 0 : -1;
}

/* A source route is found only where one may be, and its address is one of the packet. */
static void check_route(const struct packet *packet)
{
	const struct input from = { packet->ip, (size_t)(packet->end - packet->ip) };
	const size_t size = packet->version == PACKET_IPV4 ? 4 : 16;
	struct tproxy_prefix key;

	if (!srcroute_find(&from, packet->version, &key))
		return;
	require(srcroute_is_possible(packet));
	require(memmem(from.data, from.size, &key.addr[16 - size], size) != NULL);
}

static bool ports_are(const struct input *in, size_t at, uint16_t client, uint16_t server)
{
	uint16_t ports[2];

	if (!get(in, at, ports, sizeof(ports)))
		return false;
	if (ntohs(ports[1]) == client)
		return ntohs(ports[0]) == server;
	return ntohs(ports[1]) == server &&
	       (ntohs(ports[0]) == server || ntohs(ports[0]) == client);
}

static bool is_control4(const struct input *in, size_t at, const struct iphdr *ip)
{
	if (ntohs(ip->frag_off) & IP_OFFMASK)
		return false;
	if (ip->protocol == IPPROTO_IGMP)
		return ip->ttl == 1;
	return ip->protocol == IPPROTO_UDP && ports_are(in, at + ip->ihl * 4U, 68, 67);
}

static bool is_control6(const struct input *in, size_t at, const struct ip6_hdr *ip)
{
	uint8_t next = ip->ip6_nxt, type;
	unsigned int n = 0;

	for (at += sizeof(*ip); n < PACKET_EXTENSIONS_MAX; n++) {
		uint8_t header[8];

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_DSTOPTS)
			break;
		if (!get(in, at, header, sizeof(header)))
			return false;
		if (next == IPPROTO_FRAGMENT && (header[2] || header[3] >> 3))
			return false;
		at += next == IPPROTO_FRAGMENT ? 8 : 8U * (header[1] + 1U);
		next = header[0];
	}
	if (next == IPPROTO_UDP)
		return ports_are(in, at, 546, 547);
	if (next != IPPROTO_ICMPV6 || !get(in, at, &type, 1))
		return false;
	switch (type) {
	case ND_ROUTER_SOLICIT:
	case ND_ROUTER_ADVERT:
	case ND_NEIGHBOR_SOLICIT:
	case ND_NEIGHBOR_ADVERT:
	case ND_REDIRECT:
		return ip->ip6_hlim == 255;
	case MLD_LISTENER_QUERY:
	case MLD_LISTENER_REPORT:
	case MLD_LISTENER_REDUCTION:
	case 143: /* RFC 3810, 5.2 */
		return ip->ip6_hlim == 1;
	}
	return false;
}

static void check_address(const struct packet *packet, bool source, const void *expected,
			  size_t size)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct tproxy_prefix key;

	packet_address(packet, source, &key);
	require(key.n_bits == 128);
	require(memcmp(&key.addr[16 - size], expected, size) == 0);
	require(size == 16 || memcmp(key.addr, mapped, sizeof(mapped)) == 0);
}

static void check4(const struct input *in, size_t at, enum packet_kind kind,
		   const struct packet *packet)
{
	struct iphdr ip;
	const bool valid = get(in, at, &ip, sizeof(ip)) && ip.version == 4 && ip.ihl >= 5;

	require(kind == (valid ? PACKET_IP : PACKET_INVALID));
	if (!valid)
		return;
	require(packet->version == PACKET_IPV4);
	check_address(packet, true, &ip.saddr, sizeof(ip.saddr));
	check_address(packet, false, &ip.daddr, sizeof(ip.daddr));
	require(packet_is_control(packet) == is_control4(in, at, &ip));
}

static void check6(const struct input *in, size_t at, enum packet_kind kind,
		   const struct packet *packet)
{
	struct ip6_hdr ip;
	const bool valid = get(in, at, &ip, sizeof(ip)) && ip.ip6_vfc >> 4 == 6;

	require(kind == (valid ? PACKET_IP : PACKET_INVALID));
	if (!valid)
		return;
	require(packet->version == PACKET_IPV6);
	check_address(packet, true, &ip.ip6_src, sizeof(ip.ip6_src));
	check_address(packet, false, &ip.ip6_dst, sizeof(ip.ip6_dst));
	require(packet_is_control(packet) == is_control6(in, at, &ip));
}

static void check(const struct input *in)
{
	struct packet packet = {};
	const enum packet_kind kind = packet_open_frame(in->data, in->data + in->size, &packet);
	size_t at = offsetof(struct ether_header, ether_type);
	unsigned int tags = 0;
	uint16_t type;

	while (get(in, at, &type, sizeof(type)) && tags < PACKET_VLAN_TAGS_MAX &&
	       (type == htons(0x8100) || type == htons(0x88a8) || type == htons(0x9100))) {
		at += 4;
		tags++;
	}
	if (!get(in, at, &type, sizeof(type))) {
		require(kind == PACKET_INVALID);
		return;
	}
	at += sizeof(type);
	if (type == htons(ETHERTYPE_IP))
		check4(in, at, kind, &packet);
	else if (type == htons(ETHERTYPE_IPV6))
		check6(in, at, kind, &packet);
	else
		require(kind == PACKET_OTHER);
	if (kind == PACKET_IP)
		check_route(&packet);
}

/* A copy of the exact size, so that ASan detects a read beyond its end. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	struct input in = { .data = copy, .size = size };

	require(copy);
	memcpy(copy, data, size);
	check(&in);
	free(copy);
	return 0;
}
