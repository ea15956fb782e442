// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl and tproxy-load: the replacement of the block list, see store.h. The order is:
 *
 *   tries    fill two new tries; nothing that is in force changes
 *   links    attach the hooks, if the new list is the first one with entries
 *   slot     pin the tries under second names, put them into the slot that is not in use, rename
 *   state    select the slot: from here on the new list is in force
 *   counts   add what the previous entries have counted meanwhile
 *   settle   put empty tries into the slot that is no longer in use, detach hooks without need
 *
 * An update of map_block_tries returns when no program uses the previous list any more.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "monotonic.h"
#include "objects.h"
#include "rules/prefix.h"
#include "state/inner_maps.h"
#include "state/on_demand.h"
#include "state/slot_pins.h"
#include "store.h"
#include "util.h"

/* Entries that are written before progress is told. */
#define CHUNK 16384

struct chunk {
	struct tproxy_prefix keys[CHUNK];
	struct tproxy_block_entry values[CHUNK];
};

/* The new tries. */
struct tries {
	int fds[_TPROXY_BLOCK_KIND_MAX];
};

#define TRIES_NULL                                                                                 \
	{                                                                                          \
		.fds = { -1, -1 }                                                                  \
	}

static void tries_close(struct tries *tries)
{
	size_t i;

	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX; i++)
		util_closep(&tries->fds[i]);
}

static int open_tries(const struct block_store *s, unsigned int slot, struct tries *tries)
{
	size_t i;
	int r = 0;

	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX && r == 0; i++)
		r = block_store_open_trie(s, slot, i, /* writable= */ true, &tries->fds[i]);
	return r;
}

/* Creates empty tries for the slot that these are from: a trie has the name of its pin. */
static int create_tries(const struct block_store *s, const struct tries *like, struct tries *tries)
{
	size_t i;
	int r = 0;

	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX && r == 0; i++)
		r = inner_map_create(like->fds[i], &s->types, &tries->fds[i]);
	return r < 0 ? block_store_log_error(s, "create a block list", r) : 0;
}

static int fill(const struct block_store *s, int fd, const struct block_items *items)
{
	_cleanup_free_ struct chunk *chunk = malloc(sizeof(*chunk));
	size_t done, i, n;
	int r = chunk ? 0 : -ENOMEM;

	for (done = 0; done < items->n && r == 0; done += n) {
		n = items->n - done < CHUNK ? items->n - done : CHUNK;
		for (i = 0; i < n; i++) {
			chunk->keys[i] = items->list[done + i].prefix;
			chunk->values[i] = items->list[done + i].entry;
		}
		r = inner_map_fill(fd, chunk->keys, chunk->values, n);
		if (r == 0 && s->on_progress)
			s->on_progress("written", done + n, items->n);
	}
	return r < 0 ? block_store_log_error(s, "write the block list", r) : 0;
}

/* Puts tries into a slot that is not in use, and waits until no program uses its previous ones. */
static int put_tries(const struct block_store *s, unsigned int slot, const struct tries *tries)
{
	unsigned int i, index;
	int r = 0;

	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX && r == 0; i++) {
		index = TPROXY_BLOCK_TRIE(slot, i);
		r = slot_pins_stage(s->pins, PINNED_BLOCK_0 + index, tries->fds[i]);
		if (r < 0)
			return r;
		r = inner_map_put(s->tries_fd, index, tries->fds[i]);
		if (r < 0)
			return block_store_log_error(s, "replace the block list", r);
		r = slot_pins_rename(s->pins, PINNED_BLOCK_0 + index);
	}
	return r;
}

static struct tproxy_block_slot facts_of(const struct block_store *s, const struct block_list *list,
					 uint32_t error)
{
	struct tproxy_block_slot facts = {
		.loaded_ns = monotonic_kernel_ns(),
		.error = error,
		.generation = block_store_facts(s)->generation + 1,
	};
	size_t kind, i;

	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX; kind++) {
		facts.n_entries[kind] = (__u32)list->kinds[kind].n;
		for (i = 0; i < list->kinds[kind].n; i++)
			block_store_note_end(&facts, &list->kinds[kind].list[i].entry);
	}
	return facts;
}

/* Selects the other slot, in one store, and opens its tries. */
static void select_slot(struct block_store *s, struct tries *tries, bool hold)
{
	const unsigned int slot = !block_store_slot(s);
	const struct tproxy_block_slot *facts = &s->block->slots[slot];
	__u32 set = slot ? TPROXY_BLOCK_SLOT : 0;
	size_t i;

	if (facts->n_entries[TPROXY_BLOCK])
		set |= TPROXY_BLOCK_ENTRIES;
	if (facts->n_entries[TPROXY_ALLOW])
		set |= TPROXY_BLOCK_ALLOWS;
	if (hold)
		set |= TPROXY_BLOCK_HELD;
	block_store_change_state(s, set,
				 TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_ALLOWS | TPROXY_BLOCK_SLOT |
					 TPROXY_BLOCK_HELD);
	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX; i++) {
		const int previous = s->tries[i];

		s->tries[i] = tries->fds[i];
		tries->fds[i] = previous;
	}
	/* Wait until no program uses the previous slot. */
	if (inner_map_put(s->tries_fd, TPROXY_BLOCK_TRIE(slot, TPROXY_BLOCK),
			  s->tries[TPROXY_BLOCK]) < 0)
		log_warning(
			"cannot wait for the programs that use the previous block list: what they count now may be lost");
}

/* Adds to the entry of this prefix in force what the previous one has counted since. */
static void add_counts(const struct block_store *s, enum tproxy_block_kind kind,
		       const struct block_item *then, const struct block_item *now)
{
	struct tproxy_block_entry entry;

	if (now->entry.packets == then->entry.packets ||
	    block_store_get(s, kind, &now->prefix, &entry) <= 0)
		return;
	entry.packets += now->entry.packets - then->entry.packets;
	entry.bytes += now->entry.bytes - then->entry.bytes;
	if (entry.last_ns < now->entry.last_ns)
		entry.last_ns = now->entry.last_ns;
	bpf_map_update_elem(s->tries[kind], &now->prefix, &entry, BPF_EXIST);
}

static void carry_counts(struct block_store *s, const struct block_list *before,
			 const struct tries *previous)
{
	const __u32 expected[] = { (__u32)before->kinds[TPROXY_BLOCK].n,
				   (__u32)before->kinds[TPROXY_ALLOW].n };
	struct block_list list = {};
	size_t kind, i;

	if (block_store_count_hits(s) == s->hits ||
	    block_store_read_tries(s, previous->fds, expected, &list) < 0)
		return;
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX; kind++) {
		for (i = 0; i < list.kinds[kind].n; i++) {
			const struct block_item *now = &list.kinds[kind].list[i];
			const struct block_item *then =
				block_items_find(&before->kinds[kind], &now->prefix);

			if (then)
				add_counts(s, kind, then, now);
		}
	}
	block_list_finish(&list);
}

int block_store_replace(struct block_store *s, const struct block_list *list,
			const struct block_list *before, uint32_t error, bool hold)
{
	_cleanup_(tries_close) struct tries old = TRIES_NULL, tries = TRIES_NULL;
	const unsigned int slot = !block_store_slot(s);
	size_t i;
	int r;

	r = open_tries(s, slot, &old);
	if (r == 0)
		r = create_tries(s, &old, &tries);
	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX && r == 0; i++)
		r = fill(s, tries.fds[i], &list->kinds[i]);
	if (r == 0 && list->kinds[TPROXY_BLOCK].n)
		r = block_store_attach(s);
	if (r == 0)
		r = put_tries(s, slot, &tries);
	if (r == 0) {
		s->block->slots[slot] = facts_of(s, list, error);
		select_slot(s, &tries, hold);
		carry_counts(s, before, &tries);
	}
	if (r < 0 || !hold)
		block_store_settle(s);
	return r;
}

int block_store_restore(struct block_store *s)
{
	_cleanup_(tries_close) struct tries tries = TRIES_NULL;
	const unsigned int slot = !block_store_slot(s);
	struct tproxy_block_slot *facts = &s->block->slots[slot];
	int r;

	if (!block_store_is_held(s))
		return -ENOENT;
	r = open_tries(s, slot, &tries);
	if (r == 0 && facts->n_entries[TPROXY_BLOCK])
		r = block_store_attach(s);
	if (r < 0)
		return r;
	/* A new number: the generation that was taken back had the next one. */
	facts->generation = block_store_facts(s)->generation + 1;
	facts->loaded_ns = monotonic_kernel_ns();
	select_slot(s, &tries, /* hold= */ false);
	block_store_settle(s);
	return 0;
}

static bool is_empty(int fd)
{
	struct tproxy_prefix first;

	return bpf_map_get_next_key(fd, NULL, &first) == -ENOENT;
}

void block_store_settle(struct block_store *s)
{
	_cleanup_(tries_close) struct tries old = TRIES_NULL, tries = TRIES_NULL;
	const unsigned int slot = !block_store_slot(s);
	size_t i;
	int r;

	block_store_change_state(s, 0, TPROXY_BLOCK_HELD);
	r = open_tries(s, slot, &old);
	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX; i++)
		slot_pins_remove_staged(s->pins, PINNED_BLOCK_0 + TPROXY_BLOCK_TRIE(slot, i));
	if (r == 0 && !(is_empty(old.fds[TPROXY_BLOCK]) && is_empty(old.fds[TPROXY_ALLOW])) &&
	    create_tries(s, &old, &tries) == 0)
		put_tries(s, slot, &tries);
	s->block->slots[slot] = (struct tproxy_block_slot){};
	block_store_detach(s);
}
