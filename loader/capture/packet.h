/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The headers of a captured TCP packet. Pure: no system call, no state. */
#ifndef TPROXY_CAPTURE_PACKET_H
#define TPROXY_CAPTURE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

enum packet_tcp_flags {
	PACKET_FIN = 0x01,
	PACKET_SYN = 0x02,
	PACKET_RST = 0x04,
	PACKET_PSH = 0x08,
	PACKET_ACK = 0x10,
	PACKET_URG = 0x20,
};

struct packet {
	bool ipv6;
	struct tproxy_endpoint src, dst;
	bool has_tcp; /* the rest is set: the header of TCP is in what was captured */
	uint8_t flags;
	uint32_t seq, ack;
	uint16_t window;
	uint32_t payload; /* bytes of data, of the whole packet */
};

/*
 * Reads a packet from the network header on, of which @captured bytes are at @data. @len is the
 * length of the whole packet. Returns false, and leaves *ret_packet as it was, if the addresses
 * and ports are not there: not TCP, a later fragment, too short.
 */
bool packet_parse(const uint8_t *data, size_t captured, size_t len, struct packet *ret_packet);

/* Writes the flags as tcpdump does: "S", "S.", "P.", "." for ACK. Returns buf. */
#define PACKET_FLAGS_LEN 8
char *packet_format_flags(uint8_t flags, char buf[PACKET_FLAGS_LEN]);

#endif
