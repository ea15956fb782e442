// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See endpoint.h. */
#include "endpoint.h"

#include <netinet/in.h>
#include <string.h>

bool endpoint_is_ipv4(const struct tproxy_endpoint *endpoint)
{
	static const __u8 prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(endpoint->addr, prefix, sizeof(prefix)) == 0;
}

union sockaddr_any endpoint_address(const struct tproxy_endpoint *endpoint)
{
	union sockaddr_any addr = {};

	addr.in.sin_port = htons(endpoint->port);
	if (endpoint_is_ipv4(endpoint)) {
		addr.sa.sa_family = AF_INET;
		memcpy(&addr.in.sin_addr, &endpoint->addr[12], sizeof(addr.in.sin_addr));
	} else {
		addr.sa.sa_family = AF_INET6;
		memcpy(&addr.in6.sin6_addr, endpoint->addr, sizeof(addr.in6.sin6_addr));
	}
	return addr;
}
