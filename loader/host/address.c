// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See address.h. */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const __u8 mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

const __u8 address_loopback4[16] = { [10] = 0xff, 0xff, 127, 0, 0, 1 };
const __u8 address_loopback6[16] = { [15] = 1 };

void address_map4(__u8 addr[16], const void *ipv4)
{
	memcpy(addr, mapped_prefix, sizeof(mapped_prefix));
	memcpy(addr + sizeof(mapped_prefix), ipv4, 4);
}

bool address_is_ipv4(const __u8 addr[16])
{
	return memcmp(addr, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool address_is_loopback(const __u8 addr[16])
{
	if (address_is_ipv4(addr))
		return addr[12] == 127;
	return memcmp(addr, address_loopback6, sizeof(address_loopback6)) == 0;
}

bool address_is_any4(const __u8 addr[16])
{
	static const __u8 any4[16] = { [10] = 0xff, [11] = 0xff };

	return memcmp(addr, any4, sizeof(any4)) == 0;
}

bool address_is_any6(const __u8 addr[16])
{
	static const __u8 any6[16];

	return memcmp(addr, any6, sizeof(any6)) == 0;
}

struct tproxy_endpoint address_of_listen(const struct tproxy_listen *listen, __u32 i)
{
	struct tproxy_endpoint ep = { .port = listen->ports[i] };

	memcpy(ep.addr, listen->addr, sizeof(ep.addr));
	return ep;
}

char *address_format(const struct tproxy_endpoint *ep, char buf[ADDRESS_LEN])
{
	if (address_is_ipv4(ep->addr))
		inet_ntop(AF_INET, ep->addr + 12, buf, ADDRESS_LEN);
	else
		inet_ntop(AF_INET6, ep->addr, buf, ADDRESS_LEN);
	return buf;
}

char *address_format_endpoint(const struct tproxy_endpoint *ep, char buf[ADDRESS_ENDPOINT_LEN])
{
	char ip[ADDRESS_LEN];

	snprintf(buf, ADDRESS_ENDPOINT_LEN, address_is_ipv4(ep->addr) ? "%s:%u" : "[%s]:%u",
		 address_format(ep, ip), ep->port);
	return buf;
}
