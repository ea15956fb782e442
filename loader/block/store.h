/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The block list in force: read, changed in place, or replaced as a whole.
 *
 * map_block selects one of two slots, each with a trie of blocked and one of allowed prefixes. A
 * replacement fills new tries, puts them into the slot that is not in use, and selects it by one
 * store to map_block.state. Until then the list in force is unchanged; afterwards
 * block_store_restore() selects the previous slot again, until block_store_settle() frees it. What
 * is known about a list stands in its slot (struct tproxy_block_slot), so it is right whichever
 * slot is selected, also if a process dies in between.
 *
 * Functions return 0 or -errno, logged, unless stated otherwise.
 */
#ifndef TPROXY_BLOCK_STORE_H
#define TPROXY_BLOCK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"
#include "slots.h"
#include "tproxy_abi.h"

/*
 * Opens the list. *store must be BLOCK_STORE_NULL. The maps must be those of our ABI version. With
 * @pins locked the list can be changed; what a process that died has left in the other slot is
 * freed. block_store_open_read() needs no lock and changes nothing. The caller calls
 * block_store_close(), after a failure too.
 */
int block_store_open(const struct pins *pins, struct block_store *store);
int block_store_open_read(const struct pins *pins, struct block_store *store);

/* Read all entries, or those of one kind, sorted. The caller frees them. */
int block_store_read(struct block_store *store, struct block_list *ret_list);
int block_store_read_kind(struct block_store *store, enum tproxy_block_kind kind,
			  struct block_items *ret_items);

/*
 * Look up one entry: of exactly this prefix, or the longest that contains it and has not ended.
 * Return 1 and set *ret_entry and *ret_prefix, 0 if there is none, or -errno, logged.
 */
int block_store_get(const struct block_store *store, enum tproxy_block_kind kind,
		    const struct tproxy_prefix *prefix, struct tproxy_block_entry *ret_entry);
int block_store_around(const struct block_store *store, enum tproxy_block_kind kind,
		       const struct tproxy_prefix *prefix, uint64_t now,
		       struct tproxy_prefix *ret_prefix, struct tproxy_block_entry *ret_entry);

/*
 * Changes the list in place. block_store_put() adds or replaces entries; of those whose prefix has
 * an entry already the counters stay. If one fails, those before it are taken back.
 * block_store_remove() removes entries, which need not exist; *ret_n is how many did. Both need
 * items with prefixes that differ. Both attach the hooks with the first entry and detach them with
 * the last.
 */
int block_store_put(struct block_store *store, enum tproxy_block_kind kind,
		    const struct block_items *items);
int block_store_remove(struct block_store *store, enum tproxy_block_kind kind,
		       const struct block_items *items, size_t *ret_n);

/*
 * Removes the entries that have ended, if there are any. *ret_n is their number. Reads the whole
 * list if an entry may have ended, and otherwise nothing.
 */
int block_store_purge(struct block_store *store, uint64_t now, size_t *ret_n);

/*
 * Replaces the list. @before is the list in force as block_store_read() has returned it. Counters
 * of entries in @list are those that begin the new list; what is counted between the reading and
 * the replacement is added. With @hold the previous list stays in the other slot; otherwise it is
 * freed. @error is the errno of connect(), 0 for the default.
 */
int block_store_replace(struct block_store *store, const struct block_list *list,
			const struct block_list *before, uint32_t error, bool hold);

/* Selects the previous list again, and frees the other one. -ENOENT, not logged: none is held. */
int block_store_restore(struct block_store *store);
/* Frees the slot that is not in use. Failures are only logged, because the next run tries again. */
void block_store_settle(struct block_store *store);

/* Sets the errno of connect(). */
void block_store_set_error(struct block_store *store, uint32_t error);

/*
 * Comments. block_store_text() finds the index of a text, or assigns one; 0 for an empty text.
 * Without a free index it reads the list in force to find texts that no entry uses.
 * block_store_read_texts() returns an array of TPROXY_BLOCK_TEXTS_MAX, which the caller frees.
 */
int block_store_text(struct block_store *store, const char *text, __u16 *ret_index);
int block_store_read_texts(const struct block_store *store, struct tproxy_block_text **ret_texts);

#endif
