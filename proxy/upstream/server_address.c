// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See server_address.h. */
#include "server_address.h"

#include <netinet/in.h>
#include <stddef.h>

static const char *why_no_ipv4(uint32_t addr)
{
	if (addr == INADDR_ANY)
		return "the unspecified address";
	if (addr == INADDR_BROADCAST)
		return "the broadcast address";
	return IN_MULTICAST(addr) ? "a multicast address" : NULL;
}

const char *why_no_server(const union sockaddr_any *addr)
{
	const struct in6_addr *in6 = &addr->in6.sin6_addr;

	if (addr->sa.sa_family == AF_INET)
		return why_no_ipv4(ntohl(addr->in.sin_addr.s_addr));
	if (IN6_IS_ADDR_V4MAPPED(in6))
		return why_no_ipv4(ntohl(in6->s6_addr32[3]));
	if (IN6_IS_ADDR_UNSPECIFIED(in6))
		return "the unspecified address";
	if (IN6_IS_ADDR_LINKLOCAL(in6))
		return "a link-local address, which needs an interface";
	return IN6_IS_ADDR_MULTICAST(in6) ? "a multicast address" : NULL;
}
