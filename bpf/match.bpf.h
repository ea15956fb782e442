/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pure decisions about a destination: no map, no helper call, no context. The host's compiler
 * builds this too, for tests/unit/test_match.c, because connect programs cannot be run by
 * BPF_PROG_TEST_RUN (the kernel answers 524, ENOTSUPP).
 */
#ifndef TPROXY_MATCH_BPF_H
#define TPROXY_MATCH_BPF_H

#include <linux/types.h>

#include "tproxy_abi.h"

enum match_verdict {
	MATCH_REDIRECT,
	MATCH_BYPASS_LOOPBACK,
	MATCH_BYPASS_MULTICAST,
};

/* ip: network byte order, as in struct bpf_sock_addr. */
static inline void endpoint_set4(struct tproxy_endpoint *ep, __be32 ip, __u16 port)
{
	__builtin_memset(ep, 0, sizeof(*ep));
	ep->addr[10] = 0xff;
	ep->addr[11] = 0xff;
	__builtin_memcpy(&ep->addr[12], &ip, sizeof(ip));
	ep->port = port;
}

static inline int endpoint_is_mapped4(const struct tproxy_endpoint *ep)
{
	int i;

	for (i = 0; i < 10; i++) {
		if (ep->addr[i])
			return 0;
	}
	return ep->addr[10] == 0xff && ep->addr[11] == 0xff;
}

static inline __be32 endpoint_get4(const struct tproxy_endpoint *ep)
{
	__be32 ip;

	__builtin_memcpy(&ip, &ep->addr[12], sizeof(ip));
	return ip;
}

/*
 * What becomes of a TCP connect() to this IPv4 address under a policy (enum tproxy_policy_flags).
 * 0.0.0.0 is loopback: connect() takes it for "this host" (ip(7)).
 */
static inline enum match_verdict match_dst4(const __u8 *ip, __u32 policy_flags)
{
	if (ip[0] == 127 || (ip[0] | ip[1] | ip[2] | ip[3]) == 0) {
		if (policy_flags & TPROXY_INCLUDE_LOOPBACK)
			return MATCH_REDIRECT;
		return MATCH_BYPASS_LOOPBACK;
	}
	/* Redirected, a connect() that the kernel refuses at once would seem to succeed. */
	if ((ip[0] & 0xf0) == 224 || (ip[0] & ip[1] & ip[2] & ip[3]) == 255)
		return MATCH_BYPASS_MULTICAST;
	return MATCH_REDIRECT;
}

#endif
