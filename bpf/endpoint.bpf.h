/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses: set, compare, classify. Pure: no map, no helper call, no context. The host's compiler
 * builds this file too, for tests/unit, tests/fuzz and tproxyctl.
 */
#ifndef TPROXY_ENDPOINT_BPF_H
#define TPROXY_ENDPOINT_BPF_H

#include <linux/types.h>

#include "tproxy_abi.h"

enum endpoint_class {
	ENDPOINT_ORDINARY,
	ENDPOINT_LOOPBACK,   /* 127.0.0.0/8, ::1; and 0.0.0.0 and ::, "this host" to connect() */
	ENDPOINT_MULTICAST,  /* and broadcast */
	ENDPOINT_LINK_LOCAL, /* fe80::/10 */
};

/*
 * Addresses are read and written in words of four bytes, never byte by byte. clang would split a
 * copy of an endpoint on the stack at each byte that is accessed alone.
 */

/* Returns word i of the address in network byte order. */
static inline __u32 endpoint_word(const struct tproxy_endpoint *ep, int i)
{
	__u32 words[4];

	__builtin_memcpy(words, ep->addr, sizeof(words));
	return words[i];
}

/* ip: four words in network byte order. An IPv4-mapped address stays one. port: host byte order. */
static inline void endpoint_set6(struct tproxy_endpoint *ep, const __be32 *ip, __u16 port)
{
	__builtin_memcpy(ep->addr, ip, sizeof(ep->addr));
	ep->port = port;
	ep->reserved = 0;
}

/* Returns the third word of an IPv4-mapped address; the first two are 0. */
static inline __be32 endpoint_mapped4_word(void)
{
	const __u8 bytes[4] = { 0, 0, 0xff, 0xff };
	__be32 word;

	__builtin_memcpy(&word, bytes, sizeof(word));
	return word;
}

/* ip: network byte order, as in struct bpf_sock_addr. port: host byte order. */
static inline void endpoint_set4(struct tproxy_endpoint *ep, __be32 ip, __u16 port)
{
	const __be32 words[4] = { 0, 0, endpoint_mapped4_word(), ip };

	endpoint_set6(ep, words, port);
}

static inline int endpoint_is_mapped4(const struct tproxy_endpoint *ep)
{
	return (endpoint_word(ep, 0) | endpoint_word(ep, 1)) == 0 &&
	       endpoint_word(ep, 2) == endpoint_mapped4_word();
}

/* Replaces 0.0.0.0 and :: by the loopback address of their family: there clients reach a relay. */
static inline void endpoint_replace_wildcard(struct tproxy_endpoint *ep)
{
	const int is4 = endpoint_is_mapped4(ep);

	if (endpoint_word(ep, 3) != 0 ||
	    (!is4 && (endpoint_word(ep, 0) | endpoint_word(ep, 1) | endpoint_word(ep, 2)) != 0))
		return;
	ep->addr[12] = is4 ? 127 : 0;
	ep->addr[15] = 1;
}

/* addr: as in struct tproxy_endpoint. */
static inline int endpoint_has_address(const struct tproxy_endpoint *ep, const __u8 addr[16])
{
	struct tproxy_endpoint other;

	__builtin_memcpy(other.addr, addr, sizeof(other.addr));
	return endpoint_word(ep, 0) == endpoint_word(&other, 0) &&
	       endpoint_word(ep, 1) == endpoint_word(&other, 1) &&
	       endpoint_word(ep, 2) == endpoint_word(&other, 2) &&
	       endpoint_word(ep, 3) == endpoint_word(&other, 3);
}

static inline int endpoint_equal(const struct tproxy_endpoint *a, const struct tproxy_endpoint *b)
{
	return endpoint_has_address(a, b->addr) && a->port == b->port;
}

/* Returns the IPv4 address of a mapped one in network byte order. */
static inline __be32 endpoint_get4(const struct tproxy_endpoint *ep)
{
	return endpoint_word(ep, 3);
}

/* Classifies an IPv4 address in network byte order. */
static inline enum endpoint_class endpoint_class4(__be32 word)
{
	__u8 ip[4];

	__builtin_memcpy(ip, &word, sizeof(ip));
	if (ip[0] == 127 || word == 0)
		return ENDPOINT_LOOPBACK;
	if ((ip[0] & 0xf0) == 224 || word == 0xffffffff)
		return ENDPOINT_MULTICAST;
	return ENDPOINT_ORDINARY;
}

/* Classifies an address of either family. A mapped one is classified as the IPv4 address. */
static inline enum endpoint_class endpoint_class(const struct tproxy_endpoint *ep)
{
	const __be32 first = endpoint_word(ep, 0), last = endpoint_word(ep, 3);
	__u8 head[4], tail[4];

	if (endpoint_is_mapped4(ep))
		return endpoint_class4(last);
	__builtin_memcpy(head, &first, sizeof(head));
	__builtin_memcpy(tail, &last, sizeof(tail));
	if ((first | endpoint_word(ep, 1) | endpoint_word(ep, 2)) == 0 &&
	    (tail[0] | tail[1] | tail[2]) == 0 && tail[3] <= 1)
		return ENDPOINT_LOOPBACK;
	if (head[0] == 0xff)
		return ENDPOINT_MULTICAST;
	if (head[0] == 0xfe && (head[1] & 0xc0) == 0x80)
		return ENDPOINT_LINK_LOCAL;
	return ENDPOINT_ORDINARY;
}

#endif
