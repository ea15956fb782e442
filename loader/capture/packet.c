// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See packet.h. The socket filter (bpf/capture.bpf.c) has read the same headers, and lets the same
 * packets pass. With a short snap length the ports may be missing here.
 */
#include "packet.h"

#include <netinet/in.h>
#include <string.h>

#define IPV4_HEADER_MIN 20
#define IPV6_HEADER	40
#define TCP_HEADER_MIN	20
/* As in bpf/capture.bpf.c. */
#define IPV6_EXTENSIONS_MAX 4

static uint16_t read16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t read32(const uint8_t *at)
{
	return (uint32_t)read16(at) << 16 | read16(at + 2);
}

static void set_ipv4(struct tproxy_endpoint *endpoint, const uint8_t *at)
{
	memset(endpoint, 0, sizeof(*endpoint));
	endpoint->addr[10] = endpoint->addr[11] = 0xff;
	memcpy(&endpoint->addr[12], at, 4);
}

static void set_ipv6(struct tproxy_endpoint *endpoint, const uint8_t *at)
{
	memset(endpoint, 0, sizeof(*endpoint));
	memcpy(endpoint->addr, at, sizeof(endpoint->addr));
}

/* Returns the offset of the header of TCP, or 0. *ret_end is the packet's length by its header. */
static size_t parse_ipv4(const uint8_t *data, size_t captured, struct packet *p, size_t *ret_end)
{
	const size_t header = (size_t)(data[0] & 0xf) * 4;

	if (captured < IPV4_HEADER_MIN || header < IPV4_HEADER_MIN || data[9] != IPPROTO_TCP ||
	    read16(&data[6]) & 0x1fff)
		return 0;
	set_ipv4(&p->src, &data[12]);
	set_ipv4(&p->dst, &data[16]);
	*ret_end = read16(&data[2]);
	return header;
}

static size_t parse_ipv6(const uint8_t *data, size_t captured, struct packet *p, size_t *ret_end)
{
	size_t offset = IPV6_HEADER;
	uint8_t next;
	int i;

	if (captured < IPV6_HEADER)
		return 0;
	next = data[6];
	for (i = 0; i < IPV6_EXTENSIONS_MAX && next != IPPROTO_TCP; i++) {
		if ((next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING &&
		     next != IPPROTO_DSTOPTS) ||
		    captured < offset + 2)
			return 0;
		next = data[offset];
		offset += (size_t)(data[offset + 1] + 1) * 8;
	}
	if (next != IPPROTO_TCP)
		return 0;
	p->ipv6 = true;
	set_ipv6(&p->src, &data[8]);
	set_ipv6(&p->dst, &data[24]);
	*ret_end = read16(&data[4]) ? IPV6_HEADER + (size_t)read16(&data[4]) : 0;
	return offset;
}

/* @tcp: @captured bytes are there. @len: bytes from the header of TCP to the packet's end. */
static void parse_tcp(const uint8_t *tcp, size_t captured, size_t len, struct packet *p)
{
	size_t header;

	if (captured < TCP_HEADER_MIN)
		return;
	header = (size_t)(tcp[12] >> 4) * 4;
	p->has_tcp = true;
	p->seq = read32(&tcp[4]);
	p->ack = read32(&tcp[8]);
	p->flags = tcp[13];
	p->window = read16(&tcp[14]);
	p->payload = header < len ? (uint32_t)(len - header) : 0;
}

bool packet_parse(const uint8_t *data, size_t captured, size_t len, struct packet *ret_packet)
{
	struct packet p = {};
	size_t tcp = 0, end = 0;

	if (captured < 1)
		return false;
	if (data[0] >> 4 == 4)
		tcp = parse_ipv4(data, captured, &p, &end);
	else if (data[0] >> 4 == 6)
		tcp = parse_ipv6(data, captured, &p, &end);
	if (!tcp || captured < tcp + 4)
		return false;
	/* A length of 0, or beyond 65,535, is that of a packet which the device will split. */
	if (end < tcp || end > len)
		end = len;
	p.src.port = read16(&data[tcp]);
	p.dst.port = read16(&data[tcp + 2]);
	parse_tcp(data + tcp, captured - tcp, end > tcp ? end - tcp : 0, &p);
	*ret_packet = p;
	return true;
}

char *packet_format_flags(uint8_t flags, char buf[PACKET_FLAGS_LEN])
{
	static const struct {
		uint8_t flag;
		char letter;
	} letters[] = {
		{ PACKET_SYN, 'S' }, { PACKET_FIN, 'F' }, { PACKET_RST, 'R' },
		{ PACKET_PSH, 'P' }, { PACKET_URG, 'U' }, { PACKET_ACK, '.' },
	};
	size_t i, n = 0;

	for (i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
		if (flags & letters[i].flag)
			buf[n++] = letters[i].letter;
	}
	if (!n)
		buf[n++] = '-';
	buf[n] = '\0';
	return buf;
}
