/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pure decisions about a destination: no map, no helper call, no context. The host's compiler
 * builds this file too, for tests/unit/test_match.c and the fuzzer: BPF_PROG_TEST_RUN does not run
 * connect programs (the kernel returns 524, ENOTSUPP).
 */
#ifndef TPROXY_MATCH_BPF_H
#define TPROXY_MATCH_BPF_H

#include <linux/types.h>

#include "tproxy_abi.h"

enum match_verdict {
	MATCH_REDIRECT,
	MATCH_BYPASS_LOOPBACK,
	MATCH_BYPASS_MULTICAST,
	MATCH_LINK_LOCAL, /* should be redirected, but cannot be */
};

/* ip: network byte order, as in struct bpf_sock_addr. port: host byte order. */
static inline void endpoint_set4(struct tproxy_endpoint *ep, __be32 ip, __u16 port)
{
	__builtin_memset(ep, 0, sizeof(*ep));
	ep->addr[10] = 0xff;
	ep->addr[11] = 0xff;
	__builtin_memcpy(&ep->addr[12], &ip, sizeof(ip));
	ep->port = port;
}

/* ip: four words in network byte order. An IPv4-mapped address stays one. port: host byte order. */
static inline void endpoint_set6(struct tproxy_endpoint *ep, const __be32 *ip, __u16 port)
{
	__builtin_memcpy(ep->addr, ip, sizeof(ep->addr));
	ep->port = port;
	ep->reserved = 0;
}

/* Returns word i of the address in network byte order. */
static inline __u32 endpoint_word(const struct tproxy_endpoint *ep, int i)
{
	__u32 word;

	__builtin_memcpy(&word, &ep->addr[4 * i], sizeof(word));
	return word;
}

static inline int endpoint_is_mapped4(const struct tproxy_endpoint *ep)
{
	return (endpoint_word(ep, 0) | endpoint_word(ep, 1)) == 0 && ep->addr[8] == 0 &&
	       ep->addr[9] == 0 && ep->addr[10] == 0xff && ep->addr[11] == 0xff;
}

static inline int endpoint_equal(const struct tproxy_endpoint *a, const struct tproxy_endpoint *b)
{
	return endpoint_word(a, 0) == endpoint_word(b, 0) &&
	       endpoint_word(a, 1) == endpoint_word(b, 1) &&
	       endpoint_word(a, 2) == endpoint_word(b, 2) &&
	       endpoint_word(a, 3) == endpoint_word(b, 3) && a->port == b->port;
}

/* Returns the IPv4 address of a mapped one in network byte order. */
static inline __be32 endpoint_get4(const struct tproxy_endpoint *ep)
{
	__be32 ip;

	__builtin_memcpy(&ip, &ep->addr[12], sizeof(ip));
	return ip;
}

/*
 * Decides a TCP connect() to this IPv4 address (network byte order) under the policy's flags (enum
 * tproxy_policy_flags). 0.0.0.0 is loopback: connect() takes it for "this host" (ip(7)).
 */
static inline enum match_verdict match_dst4(const __u8 *ip, __u32 policy_flags)
{
	if (ip[0] == 127 || (ip[0] | ip[1] | ip[2] | ip[3]) == 0) {
		if (policy_flags & TPROXY_INCLUDE_LOOPBACK)
			return MATCH_REDIRECT;
		return MATCH_BYPASS_LOOPBACK;
	}
	/* The kernel fails such a connect() at once. Redirected, it would seem to succeed. */
	if ((ip[0] & 0xf0) == 224 || (ip[0] & ip[1] & ip[2] & ip[3]) == 255)
		return MATCH_BYPASS_MULTICAST;
	return MATCH_REDIRECT;
}

/* The same for an IPv6 address. Loopback is ::1, and :: as "this host". */
static inline enum match_verdict match_dst6(const struct tproxy_endpoint *dst, __u32 policy_flags)
{
	const __u8 *ip = dst->addr;

	if ((endpoint_word(dst, 0) | endpoint_word(dst, 1) | endpoint_word(dst, 2)) == 0 &&
	    (ip[12] | ip[13] | ip[14]) == 0 && ip[15] <= 1) {
		if (policy_flags & TPROXY_INCLUDE_LOOPBACK)
			return MATCH_REDIRECT;
		return MATCH_BYPASS_LOOPBACK;
	}
	if (ip[0] == 0xff)
		return MATCH_BYPASS_MULTICAST;
	if (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80)
		return MATCH_LINK_LOCAL;
	return MATCH_REDIRECT;
}

static inline enum match_verdict match_dst(const struct tproxy_endpoint *dst, __u32 policy_flags)
{
	if (endpoint_is_mapped4(dst))
		return match_dst4(&dst->addr[12], policy_flags);
	return match_dst6(dst, policy_flags);
}

#endif
