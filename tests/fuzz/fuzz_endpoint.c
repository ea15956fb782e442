// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf/endpoint.bpf.h classifies and compares any address, checked against the C library's own tests
 * of addresses. An IPv4 address and its mapped form must give the same result. Input: address,
 * other address, port, other port.
 */
#include "fuzz.h"

#include <netinet/in.h>
#include <stdbool.h>

#include "endpoint.bpf.h"

struct input {
	struct in6_addr addr;
	struct in6_addr other;
	uint16_t port;
	uint16_t other_port;
};

static enum endpoint_class expected4(struct in_addr in)
{
	in_addr_t ip = ntohl(in.s_addr);

	if ((ip >> 24) == IN_LOOPBACKNET || ip == INADDR_ANY)
		return ENDPOINT_LOOPBACK;
	if (IN_MULTICAST(ip) || ip == INADDR_BROADCAST)
		return ENDPOINT_MULTICAST;
	return ENDPOINT_ORDINARY;
}

static enum endpoint_class expected6(const struct in6_addr *ip)
{
	struct in_addr in;

	if (IN6_IS_ADDR_V4MAPPED(ip)) {
		memcpy(&in, &ip->s6_addr[12], sizeof(in));
		return expected4(in);
	}
	if (IN6_IS_ADDR_LOOPBACK(ip) || IN6_IS_ADDR_UNSPECIFIED(ip))
		return ENDPOINT_LOOPBACK;
	if (IN6_IS_ADDR_MULTICAST(ip))
		return ENDPOINT_MULTICAST;
	if (IN6_IS_ADDR_LINKLOCAL(ip))
		return ENDPOINT_LINK_LOCAL;
	return ENDPOINT_ORDINARY;
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
static void check4(const struct input *in)
{
	struct tproxy_endpoint ep, mapped;
	struct in6_addr ip = {};
	struct in_addr v4;

	memcpy(&v4, &in->addr.s6_addr[12], sizeof(v4));
	memset(&ep, 0xa5, sizeof(ep));
	endpoint_set4(&ep, v4.s_addr, in->port);
	require(endpoint_is_mapped4(&ep));
	require(endpoint_get4(&ep) == v4.s_addr);
	require(endpoint_class4(v4.s_addr) == expected4(v4));
	require(endpoint_class(&ep) == expected4(v4));
	ip.s6_addr[10] = ip.s6_addr[11] = 0xff;
	memcpy(&ip.s6_addr[12], &v4, sizeof(v4));
	endpoint_from(&mapped, &ip, in->port);
	require(memcmp(&mapped, &ep, sizeof(ep)) == 0);
	require(endpoint_equal(&mapped, &ep));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tproxy_endpoint ep, other;
	struct input in = {};
	bool same;

	memcpy(&in, data, size < sizeof(in) ? size : sizeof(in));
	endpoint_from(&ep, &in.addr, in.port);
	endpoint_from(&other, &in.other, in.other_port);
	require(!!endpoint_is_mapped4(&ep) == IN6_IS_ADDR_V4MAPPED(&in.addr));
	require(endpoint_class(&ep) == expected6(&in.addr));
	same = memcmp(&in.addr, &in.other, sizeof(in.addr)) == 0 && in.port == in.other_port;
	require(endpoint_equal(&ep, &ep));
	require(!!endpoint_equal(&ep, &other) == same);
	require(!!endpoint_equal(&other, &ep) == same);
	check4(&in);
	return 0;
}
