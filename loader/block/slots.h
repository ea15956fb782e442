/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps of the block list, open: what the files of the store (store.h) share. Functions return 0
 * or -errno, logged.
 */
#ifndef TPROXY_BLOCK_SLOTS_H
#define TPROXY_BLOCK_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"
#include "state/inner_maps.h"
#include "tproxy_abi.h"

struct pins;

struct block_store {
	const struct pins *pins;
	struct tproxy_block *block; /* map_block in our memory; NULL: not open */
	struct tproxy_block copy;   /* of map_block, for block_store_open_read() */
	int tries_fd, texts_fd, stats_fd;
	/* Of the tries. Set by tproxy-load --follow, so that it needs no CAP_SYS_ADMIN. */
	struct inner_map_types types;
	int tries[_TPROXY_BLOCK_KIND_MAX];     /* those of the slot in use */
	uint64_t hits;			       /* that were counted when block_store_read() began */
	bool assigned[TPROXY_BLOCK_TEXTS_MAX]; /* texts that block_store_text() has returned */
	/* Called now and then while a list is read or written, with what was done of n; or NULL. */
	void (*on_progress)(const char *what, size_t done, size_t n);
};

#define BLOCK_STORE_NULL                                                                           \
	{                                                                                          \
		.tries_fd = -1, .texts_fd = -1, .stats_fd = -1, .tries = { -1, -1 },               \
		.types = INNER_MAP_TYPES_NULL,                                                     \
	}

/* Return the slot in use, and what is known about the list in it. */
static inline unsigned int block_store_slot(const struct block_store *store)
{
	return store->block->state & TPROXY_BLOCK_SLOT ? 1 : 0;
}

static inline struct tproxy_block_slot *block_store_facts(const struct block_store *store)
{
	return &store->block->slots[block_store_slot(store)];
}

static inline bool block_store_is_held(const struct block_store *store)
{
	return store->block->state & TPROXY_BLOCK_HELD;
}

/* Opens the maps, and the tries of the slot in use. With @writable pins have to be locked. */
int block_store_open_slots(const struct pins *pins, bool writable, struct block_store *store);
void block_store_close(struct block_store *store);

/* Opens a trie of a slot. */
int block_store_open_trie(const struct block_store *store, unsigned int slot,
			  enum tproxy_block_kind kind, bool writable, int *ret_fd);

/* Reads a trie, or both, sorted. @expected is a number of entries, for the progress. */
int block_store_read_trie(const struct block_store *store, int fd, size_t expected,
			  struct block_items *ret_items);
int block_store_read_tries(const struct block_store *store, const int tries[_TPROXY_BLOCK_KIND_MAX],
			   const __u32 *expected, struct block_list *ret_list);

/* Returns how often entries were hit, at all places together. */
uint64_t block_store_count_hits(const struct block_store *store);

/*
 * Sets and clears bits of map_block.state, and counts the change, in one step. The hooks forget
 * what they remember. A change of the tries in use has CHANGING set meanwhile.
 */
void block_store_change_state(struct block_store *store, __u32 set, __u32 clear);

/* Attach the hooks unless they are, or detach them unless something needs them. */
int block_store_attach(struct block_store *store);
void block_store_detach(struct block_store *store);

/* Notes when an entry ends. */
void block_store_note_end(struct tproxy_block_slot *facts, const struct tproxy_block_entry *entry);

/* Logs that something cannot be done. Returns @r. */
int block_store_log_error(const struct block_store *store, const char *what, int r);

#endif
