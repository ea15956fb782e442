/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A block list in memory: the entries of both kinds, block and allow, each sorted by prefix as
 * prefix_compare() orders, with one entry for each prefix.
 */
#ifndef TPROXY_BLOCK_LIST_H
#define TPROXY_BLOCK_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct prefixes;

struct block_item {
	struct tproxy_prefix prefix;
	struct tproxy_block_entry entry;
};

/* Zeroed, it is empty. */
struct block_items {
	struct block_item *list;
	size_t n, room;
};

struct block_list {
	struct block_items kinds[_TPROXY_BLOCK_KIND_MAX]; /* by enum tproxy_block_kind */
};

void block_list_finish(struct block_list *list);

/* Appends an item. The items are no longer sorted. Returns 0 or -ENOMEM. */
int block_items_add(struct block_items *items, const struct tproxy_prefix *prefix,
		    const struct tproxy_block_entry *entry);

/*
 * Sorts. Of items with the same prefix the one that ends later stays, the first of them if they end
 * at the same time.
 */
void block_items_sort(struct block_items *items);

/* Returns the item of this prefix, or NULL. The items must be sorted. */
struct block_item *block_items_find(const struct block_items *items,
				    const struct tproxy_prefix *prefix);
/*
 * Returns the longest item that contains this prefix and has not ended, or NULL. An IPv6 prefix
 * does not contain IPv4. The items must be sorted.
 */
const struct block_item *block_items_around(const struct block_items *items,
					    const struct tproxy_prefix *prefix, uint64_t now);

/* Returns true if the entry has an end, and it is not after now. */
bool block_entry_ended(const struct tproxy_block_entry *entry, uint64_t now);

/* Removes the entries that have ended. Returns their number. */
size_t block_items_drop_ended(struct block_items *items, uint64_t now);

/*
 * Returns an item that ends and lies within TPROXY_BLOCK_ENDED_MAX others that end, or NULL: the
 * kernel half steps over no more entries that have ended. The items must be sorted.
 */
const struct block_item *block_items_too_deep(const struct block_items *items);

/*
 * Returns true if a trie with these items has a path of 129 nodes, one of each length of a prefix.
 * Linux before 6.12 writes beyond the end of a buffer when such a trie is read, unless the fix was
 * backported. The items must be sorted.
 */
bool block_items_too_nested(const struct block_items *items);

/* Returns the item that is all IPv4 or all IPv6 addresses, or NULL. */
const struct block_item *block_items_all(const struct block_items *items);

/*
 * Returns true if the items contain all unicast addresses of a family, loopback ones left aside.
 * They must be sorted.
 */
bool block_items_cover_ipv4(const struct block_items *items);
bool block_items_cover_ipv6(const struct block_items *items);

/*
 * Returns the number of nodes of a trie with these items: those of the items and those where
 * prefixes part. The items must be sorted.
 */
size_t block_items_nodes(const struct block_items *items);

#endif
