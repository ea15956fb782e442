// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * List files of `tproxyctl block --apply`, and what is computed of the lists: all entries are valid
 * prefixes without host bits, the sorted list has each once, and a look-up agrees with a search
 * through all entries.
 */
#include "fuzz.h"

#include "block/file.h"
#include "block/list.h"
#include "rules/message.h"
#include "rules/prefix.h"
#include "rules/source.h"

#define NOW UINT64_C(1000)

static void check_item(const struct block_item *item)
{
	struct tproxy_prefix masked = item->prefix;

	require(item->prefix.n_bits <= PREFIX_BITS_MAX);
	require(item->entry.n_bits == item->prefix.n_bits);
	require(!prefix_mask(&masked));
	require(!prefix_is_loopback(&item->prefix));
	require(item->entry.ends_ns == 0 || item->entry.ends_ns > NOW);
}

/* The longest item that contains the prefix, without the search of block_items_around(). */
static const struct block_item *search(const struct block_items *items,
				       const struct tproxy_prefix *prefix)
{
	const struct block_item *found = NULL;
	size_t i;

	for (i = 0; i < items->n; i++) {
		const struct tproxy_prefix *outer = &items->list[i].prefix;

		if (prefix_is_within(prefix, outer) &&
		    (!prefix_is_ipv4(prefix) || outer->n_bits >= PREFIX_IPV4_BITS) &&
		    (!found || outer->n_bits > found->prefix.n_bits))
			found = &items->list[i];
	}
	return found;
}

static void check_items(struct block_items *items)
{
	size_t i;

	for (i = 0; i < items->n; i++)
		check_item(&items->list[i]);
	block_items_sort(items);
	for (i = 1; i < items->n; i++)
		require(prefix_compare(&items->list[i - 1].prefix, &items->list[i].prefix) < 0);
	for (i = 0; i < items->n && i < 16; i++) {
		struct tproxy_prefix host = items->list[i].prefix;

		require(block_items_find(items, &host) == &items->list[i]);
		host.n_bits = PREFIX_BITS_MAX;
		require(block_items_around(items, &host, NOW) == search(items, &host));
	}
	require(block_items_nodes(items) >= items->n);
	require(block_items_nodes(items) <= 2 * items->n);
	block_items_cover_ipv4(items);
	block_items_cover_ipv6(items);
	block_items_too_deep(items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rules_messages messages;
	const struct source source = {
		.file = "f", .text = (const char *)data, .len = size, .messages = &messages
	};
	const struct tproxy_block_entry like = { .flags = TPROXY_BLOCK_BY_FILE, .comment = 1 };
	struct block_file_counts counts = {};
	struct block_list list = {};
	size_t kind;

	if (size > 4096)
		return 0;
	require(block_file_parse(&source, &like, NOW, &list, &counts) == 0);
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX; kind++)
		check_items(&list.kinds[kind]);
	block_list_finish(&list);
	rules_messages_finish(&messages);
	return 0;
}
