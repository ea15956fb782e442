// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Block lists in memory, see list.h. Nothing here reads maps, files or clocks. */
#include "list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rules/prefix.h"

/* All of IPv4. A shorter prefix that contains it does not mean it. */
static const struct tproxy_prefix ipv4 = { PREFIX_IPV4_BITS, { [10] = 0xff, 0xff } };

void block_list_finish(struct block_list *list)
{
	size_t i;

	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX; i++)
		free(list->kinds[i].list);
	*list = (struct block_list){};
}

int block_items_add(struct block_items *items, const struct tproxy_prefix *prefix,
		    const struct tproxy_block_entry *entry)
{
	if (items->n == items->room) {
		const size_t room = items->room ? 2 * items->room : 64;
		struct block_item *list = reallocarray(items->list, room, sizeof(*list));

		if (!list)
			return -ENOMEM;
		items->list = list;
		items->room = room;
	}
	items->list[items->n] = (struct block_item){ .prefix = *prefix, .entry = *entry };
	items->list[items->n++].entry.n_bits = prefix->n_bits;
	return 0;
}

/* Returns the end of an entry for comparisons: one without an end lasts longest. */
static uint64_t end_of(const struct tproxy_block_entry *entry)
{
	return entry->ends_ns ? entry->ends_ns : UINT64_MAX;
}

static bool is_sorted(const struct block_items *items)
{
	size_t i;

	for (i = 1; i < items->n; i++) {
		if (prefix_compare(&items->list[i - 1].prefix, &items->list[i].prefix) >= 0)
			return false;
	}
	return true;
}

static int compare_items(const void *a, const void *b)
{
	const struct block_item *one = a, *other = b;

	return prefix_compare(&one->prefix, &other->prefix);
}

/* qsort() of glibc is a merge sort, and so stable, unless memory is short. */
void block_items_sort(struct block_items *items)
{
	size_t i, kept = 0;

	if (is_sorted(items))
		return;
	qsort(items->list, items->n, sizeof(*items->list), compare_items);
	for (i = 1; i < items->n; i++) {
		struct block_item *last = &items->list[kept], *item = &items->list[i];

		if (prefix_compare(&last->prefix, &item->prefix) != 0)
			items->list[++kept] = *item;
		else if (end_of(&item->entry) > end_of(&last->entry))
			*last = *item;
	}
	items->n = kept + 1;
}

struct block_item *block_items_find(const struct block_items *items,
				    const struct tproxy_prefix *prefix)
{
	if (!items->n)
		return NULL;
	/* The prefix is the first member of an item. */
	return bsearch(prefix, items->list, items->n, sizeof(*items->list), prefix_compare);
}

const struct block_item *block_items_around(const struct block_items *items,
					    const struct tproxy_prefix *prefix, uint64_t now)
{
	const unsigned int least = prefix_is_ipv4(prefix) ? PREFIX_IPV4_BITS : 0;
	struct tproxy_prefix at = *prefix;
	const struct block_item *item;

	for (;;) {
		prefix_mask(&at);
		item = block_items_find(items, &at);
		if (item && !block_entry_ended(&item->entry, now))
			return item;
		if (at.n_bits == least)
			return NULL;
		at.n_bits--;
	}
}

bool block_entry_ended(const struct tproxy_block_entry *entry, uint64_t now)
{
	return entry->ends_ns && entry->ends_ns <= now;
}

size_t block_items_drop_ended(struct block_items *items, uint64_t now)
{
	size_t i, kept = 0, n = items->n;

	for (i = 0; i < n; i++) {
		if (!block_entry_ended(&items->list[i].entry, now))
			items->list[kept++] = items->list[i];
	}
	items->n = kept;
	return n - kept;
}

const struct block_item *block_items_too_deep(const struct block_items *items)
{
	const struct block_item *around[TPROXY_BLOCK_ENDED_MAX];
	size_t i, depth = 0;

	for (i = 0; i < items->n; i++) {
		const struct block_item *item = &items->list[i];

		while (depth && !prefix_is_within(&item->prefix, &around[depth - 1]->prefix))
			depth--;
		if (!item->entry.ends_ns)
			continue;
		if (depth == TPROXY_BLOCK_ENDED_MAX)
			return item;
		around[depth++] = item;
	}
	return NULL;
}

const struct block_item *block_items_all(const struct block_items *items)
{
	size_t i;

	for (i = 0; i < items->n; i++) {
		const struct tproxy_prefix *prefix = &items->list[i].prefix;

		if (!prefix->n_bits || prefix_compare(prefix, &ipv4) == 0)
			return &items->list[i];
	}
	return NULL;
}

static unsigned __int128 to_number(const __u8 addr[16])
{
	unsigned __int128 number = 0;
	size_t i;

	for (i = 0; i < 16; i++)
		number = number << 8 | addr[i];
	return number;
}

/* Returns the last address of a prefix. */
static unsigned __int128 last_of(const struct tproxy_prefix *prefix)
{
	const unsigned __int128 all = ~(unsigned __int128)0;

	return to_number(prefix->addr) | (prefix->n_bits ? ~(all << (128 - prefix->n_bits)) : all);
}

/*
 * Returns true if the items contain all addresses from first to last. Sorted items that follow each
 * other without a gap move first forward.
 */
static bool cover(const struct block_items *items, unsigned __int128 first, unsigned __int128 last,
		  bool is_ipv4)
{
	size_t i;

	for (i = 0; i < items->n; i++) {
		const struct tproxy_prefix *prefix = &items->list[i].prefix;
		const unsigned __int128 end = last_of(prefix);

		if ((is_ipv4 && prefix->n_bits < PREFIX_IPV4_BITS) || end < first)
			continue;
		if (to_number(prefix->addr) > first)
			return false;
		if (end >= last)
			return true;
		first = end + 1;
	}
	return false;
}

bool block_items_cover_ipv4(const struct block_items *items)
{
	const unsigned __int128 mapped = to_number(ipv4.addr);

	return cover(items, mapped + 0x01000000, mapped + 0x7effffff, true) &&
	       cover(items, mapped + 0x80000000, mapped + 0xdfffffff, true);
}

bool block_items_cover_ipv6(const struct block_items *items)
{
	const unsigned __int128 global = (unsigned __int128)0x20 << 120;

	return cover(items, global, global + ((unsigned __int128)0x20 << 120) - 1, false);
}

/* Returns how many bits two prefixes have in common. */
static unsigned int common_bits(const struct tproxy_prefix *a, const struct tproxy_prefix *b)
{
	const unsigned int most = a->n_bits < b->n_bits ? a->n_bits : b->n_bits;
	unsigned int bits = 0;

	while (bits + 8 <= most && a->addr[bits / 8] == b->addr[bits / 8])
		bits += 8;
	while (bits < most && !((a->addr[bits / 8] ^ b->addr[bits / 8]) & 0x80 >> bits % 8))
		bits++;
	return bits;
}

/* A node on the way from the root to the last item. */
struct path_node {
	int bits;
	size_t height; /* of the nodes below that were left, and of itself */
};

/* Leaves the nodes with more bits. Returns the height of the highest one, or 0 if there is none. */
static size_t leave(struct path_node *stack, size_t *depth, int bits)
{
	size_t below = 0;

	while (*depth && stack[*depth - 1].bits > bits) {
		const size_t height = stack[--*depth].height;

		below = height > below + 1 ? height : below + 1;
	}
	return below;
}

/*
 * The nodes on the way from the root to the last item are a stack. An item parts from it where it
 * has fewer bits in common with the item before. Returns the number of nodes; *ret_path is that of
 * the longest path.
 */
static size_t count_nodes(const struct block_items *items, size_t *ret_path)
{
	struct path_node stack[PREFIX_BITS_MAX + 1];
	size_t i, depth = 0, nodes = 0, below;
	int bits, own;

	for (i = 0; i < items->n; i++) {
		const struct tproxy_prefix *prefix = &items->list[i].prefix;

		bits = i ? (int)common_bits(&items->list[i - 1].prefix, prefix) : 0;
		own = (int)prefix->n_bits;
		below = leave(stack, &depth, bits);
		if (i && (!depth || stack[depth - 1].bits < bits)) {
			stack[depth++] = (struct path_node){ bits, below + 1 };
			nodes++;
		} else if (depth && stack[depth - 1].height < below + 1) {
			stack[depth - 1].height = below + 1;
		}
		if (!depth || stack[depth - 1].bits < own) {
			stack[depth++] = (struct path_node){ own, 1 };
			nodes++;
		}
	}
	*ret_path = leave(stack, &depth, -1);
	return nodes;
}

size_t block_items_nodes(const struct block_items *items)
{
	size_t path;

	return count_nodes(items, &path);
}

bool block_items_too_nested(const struct block_items *items)
{
	size_t path;

	count_nodes(items, &path);
	return path > PREFIX_BITS_MAX;
}
