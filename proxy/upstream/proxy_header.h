/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The PROXY protocol: a header before all other bytes, which tells the server who connects where.
 * Version 1 is a line of text, version 2 is binary. The source is the client's address, the
 * destination is the original one. If their families differ, both are written as IPv6, and the IPv4
 * one is mapped (::ffff:a.b.c.d). Without a client, as in a check of an upstream, version 1 says
 * UNKNOWN and version 2 says LOCAL.
 *
 * tproxy-upstreams(5), PROXY HEADERS, describes the fields of version 2, and tproxy's own TLV byte
 * by byte. scripts/wireshark/tproxy.lua decodes that TLV.
 */
#ifndef TPROXY_PROXY_HEADER_H
#define TPROXY_PROXY_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "handshake.h"
#include "upstream.h"

/* Every TCP segment carries so many bytes, even one with the smallest MSS of IPv4 (RFC 9293). */
#define PROXY_HEADER_MAX 536

/* The types of TLVs that are written. */
enum proxy_tlv {
	PROXY_TLV_AUTHORITY = 0x02,
	PROXY_TLV_CRC32C = 0x03,
	PROXY_TLV_UNIQUE_ID = 0x05,
	PROXY_TLV_NETNS = 0x30,
	PROXY_TLV_TPROXY = 0xe4, /* 0xe0 to 0xef are for applications */
};

/* The value of PROXY_TLV_TPROXY: this magic, the version, and TLVs of these types. */
#define PROXY_TPROXY_MAGIC   "tprx"
#define PROXY_TPROXY_VERSION 1

enum proxy_tproxy_tlv {
	PROXY_TPROXY_PID = 0x01,
	PROXY_TPROXY_UID = 0x02,
	PROXY_TPROXY_GID = 0x03,
	PROXY_TPROXY_COMMAND = 0x04,
	PROXY_TPROXY_CGROUP_ID = 0x05,
	PROXY_TPROXY_CGROUP_PATH = 0x06,
};

/*
 * Writes the header of version 1 or 2 for the target. cgroup_path: of the client, or NULL; it is
 * left out if it would make the header longer than PROXY_HEADER_MAX. Returns the length.
 */
size_t proxy_header_write(enum proxy_header version, const struct handshake_target *target,
			  const char *cgroup_path, uint8_t buf[PROXY_HEADER_MAX]);

#endif
