// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf/match.bpf.h decides any destination under any policy, compared with the C library's own tests
 * of addresses. An IPv4 address and its mapped form must give the same result. Input: address,
 * other address, port, flags.
 */
#include "fuzz.h"

#include <netinet/in.h>
#include <stdbool.h>

#include "match.bpf.h"

struct input {
	struct in6_addr addr;
	struct in6_addr other;
	uint16_t port;
	uint16_t other_port;
	uint32_t flags;
};

static enum match_verdict expected4(struct in_addr in, bool include_loopback)
{
	in_addr_t ip = ntohl(in.s_addr);

	if ((ip >> 24) == IN_LOOPBACKNET || ip == INADDR_ANY)
		return include_loopback ? MATCH_REDIRECT : MATCH_BYPASS_LOOPBACK;
	if (IN_MULTICAST(ip) || ip == INADDR_BROADCAST)
		return MATCH_BYPASS_MULTICAST;
	return MATCH_REDIRECT;
}

static enum match_verdict expected6(const struct in6_addr *ip, bool include_loopback)
{
	struct in_addr in;

	if (IN6_IS_ADDR_V4MAPPED(ip)) {
		memcpy(&in, &ip->s6_addr[12], sizeof(in));
		return expected4(in, include_loopback);
	}
	if (IN6_IS_ADDR_LOOPBACK(ip) || IN6_IS_ADDR_UNSPECIFIED(ip))
		return include_loopback ? MATCH_REDIRECT : MATCH_BYPASS_LOOPBACK;
	if (IN6_IS_ADDR_MULTICAST(ip))
		return MATCH_BYPASS_MULTICAST;
	if (IN6_IS_ADDR_LINKLOCAL(ip))
		return MATCH_LINK_LOCAL;
	return MATCH_REDIRECT;
}

static void endpoint_from(struct tproxy_endpoint *ep, const struct in6_addr *ip, uint16_t port)
{
	__be32 words[4];

	memset(ep, 0xa5, sizeof(*ep));
	memcpy(words, ip, sizeof(words));
	endpoint_set6(ep, words, port);
	require(memcmp(ep->addr, ip, sizeof(ep->addr)) == 0);
	require(ep->port == port && ep->reserved == 0);
}

/*
 * A random address is hardly ever a mapped one, so the mapped form of its last word is checked too.
 */
static void check4(const struct input *in, bool include_loopback)
{
	struct tproxy_endpoint ep, mapped;
	struct in6_addr ip = {};
	struct in_addr v4;

	memcpy(&v4, &in->addr.s6_addr[12], sizeof(v4));
	memset(&ep, 0xa5, sizeof(ep));
	endpoint_set4(&ep, v4.s_addr, in->port);
	require(endpoint_is_mapped4(&ep));
	require(endpoint_get4(&ep) == v4.s_addr);
	require(match_dst4(&in->addr.s6_addr[12], in->flags) == expected4(v4, include_loopback));
	require(match_dst(&ep, in->flags) == match_dst4(&in->addr.s6_addr[12], in->flags));
	ip.s6_addr[10] = ip.s6_addr[11] = 0xff;
	memcpy(&ip.s6_addr[12], &v4, sizeof(v4));
	endpoint_from(&mapped, &ip, in->port);
	require(memcmp(&mapped, &ep, sizeof(ep)) == 0);
	require(endpoint_equal(&mapped, &ep));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tproxy_endpoint ep, other;
	bool include_loopback, same;
	struct input in = {};

	memcpy(&in, data, size < sizeof(in) ? size : sizeof(in));
	include_loopback = in.flags & TPROXY_INCLUDE_LOOPBACK;
	endpoint_from(&ep, &in.addr, in.port);
	endpoint_from(&other, &in.other, in.other_port);
	require(!!endpoint_is_mapped4(&ep) == IN6_IS_ADDR_V4MAPPED(&in.addr));
	require(match_dst(&ep, in.flags) == expected6(&in.addr, include_loopback));
	same = memcmp(&in.addr, &in.other, sizeof(in.addr)) == 0 && in.port == in.other_port;
	require(endpoint_equal(&ep, &ep));
	require(!!endpoint_equal(&ep, &other) == same);
	require(!!endpoint_equal(&other, &ep) == same);
	check4(&in, include_loopback);
	return 0;
}
