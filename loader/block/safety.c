// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl. See safety.h. Nothing here reads maps, files or clocks. */
#include "safety.h"

#include <stdio.h>
#include <string.h>

#include "host/gateways.h"
#include "rules/prefix.h"

/* The shortest of the prefixes that do not need a look at the whole list: IPv4 /9, IPv6 /17. */
#define WIDE4 (PREFIX_IPV4_BITS + 8)
#define WIDE6 16

/* now = UINT64_MAX: skips every entry that has an end. */
bool block_safety_allows(const struct block_items *allows, const __u8 addr[16])
{
	struct tproxy_prefix host = { .n_bits = PREFIX_BITS_MAX };

	memcpy(host.addr, addr, sizeof(host.addr));
	return block_items_around(allows, &host, UINT64_MAX);
}

const struct block_item *block_safety_blocks(const struct block_list *list, const __u8 addr[16],
					     uint64_t now)
{
	struct tproxy_prefix host = { .n_bits = PREFIX_BITS_MAX };
	const struct block_item *blocked;

	memcpy(host.addr, addr, sizeof(host.addr));
	blocked = block_items_around(&list->kinds[TPROXY_BLOCK], &host, now);
	return blocked && !block_safety_allows(&list->kinds[TPROXY_ALLOW], addr) ? blocked : NULL;
}

bool block_safety_cuts_off(const struct block_list *list, const struct gateway *gateways, size_t n,
			   uint64_t now, char ret_why[BLOCK_SAFETY_LEN])
{
	char blocked[PREFIX_FORMAT_LEN], gateway[PREFIX_FORMAT_LEN];
	const struct block_item *item;
	size_t i;

	if (block_items_cover_ipv4(&list->kinds[TPROXY_BLOCK]) ||
	    block_items_cover_ipv6(&list->kinds[TPROXY_BLOCK])) {
		snprintf(ret_why, BLOCK_SAFETY_LEN, "the list would block all %s addresses",
			 block_items_cover_ipv4(&list->kinds[TPROXY_BLOCK]) ? "IPv4" : "IPv6");
		return true;
	}
	for (i = 0; i < n; i++) {
		struct tproxy_prefix host = { .n_bits = PREFIX_BITS_MAX };

		item = block_safety_blocks(list, gateways[i].addr, now);
		if (!item)
			continue;
		memcpy(host.addr, gateways[i].addr, sizeof(host.addr));
		snprintf(ret_why, BLOCK_SAFETY_LEN, "%s would block the default gateway %s",
			 prefix_format(&item->prefix, blocked, sizeof(blocked)),
			 prefix_format(&host, gateway, sizeof(gateway)));
		return true;
	}
	return false;
}

bool block_safety_is_wide(const struct tproxy_prefix *prefix)
{
	return prefix->n_bits <= (prefix_is_ipv4(prefix) ? WIDE4 : WIDE6);
}
