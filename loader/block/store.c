// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl and tproxy-load: the block list in force, see store.h. This file opens, reads and
 * changes it; replace.c replaces it as a whole.
 *
 * The order of a change: hooks are attached before the list has its first entry, the flag ALLOWS is
 * set before the blocks that need it come, and flags are cleared before hooks are detached. So
 * there is no moment at which an address that the list allows is blocked. CHANGING is set as long
 * as a trie is changed, so that the hooks look each address up.
 */
#include "store.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "monotonic.h"
#include "rules/prefix.h"
#include "util.h"

int block_store_open_read(const struct pins *pins, struct block_store *s)
{
	return block_store_open_slots(pins, /* writable= */ false, s);
}

int block_store_open(const struct pins *pins, struct block_store *s)
{
	int r = block_store_open_slots(pins, /* writable= */ true, s);

	/* Left by a process that was killed. */
	if (r == 0 && s->block->state & TPROXY_BLOCK_CHANGING)
		block_store_change_state(s, 0, TPROXY_BLOCK_CHANGING);
	if (r == 0 && !block_store_is_held(s))
		block_store_settle(s);
	return r;
}

int block_store_read(struct block_store *s, struct block_list *ret_list)
{
	s->hits = block_store_count_hits(s);
	return block_store_read_tries(s, s->tries, block_store_facts(s)->n_entries, ret_list);
}

int block_store_read_kind(struct block_store *s, enum tproxy_block_kind kind,
			  struct block_items *ret_items)
{
	return block_store_read_trie(s, s->tries[kind], block_store_facts(s)->n_entries[kind],
				     ret_items);
}

int block_store_get(const struct block_store *s, enum tproxy_block_kind kind,
		    const struct tproxy_prefix *prefix, struct tproxy_block_entry *ret_entry)
{
	struct tproxy_block_entry entry;
	int r = bpf_map_lookup_elem(s->tries[kind], prefix, &entry);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return block_store_log_error(s, "look up the block list", r);
	/* A trie answers with the longest prefix that contains the key. */
	if (entry.n_bits != prefix->n_bits)
		return 0;
	*ret_entry = entry;
	return 1;
}

int block_store_around(const struct block_store *s, enum tproxy_block_kind kind,
		       const struct tproxy_prefix *prefix, uint64_t now,
		       struct tproxy_prefix *ret_prefix, struct tproxy_block_entry *ret_entry)
{
	const unsigned int least = prefix_is_ipv4(prefix) ? PREFIX_IPV4_BITS : 0;
	struct tproxy_prefix at = *prefix;
	struct tproxy_block_entry entry;
	int r;

	for (;;) {
		r = bpf_map_lookup_elem(s->tries[kind], &at, &entry);
		if (r == -ENOENT || (r == 0 && entry.n_bits < least))
			return 0;
		if (r < 0)
			return block_store_log_error(s, "look up the block list", r);
		at.n_bits = entry.n_bits;
		if (!block_entry_ended(&entry, now))
			break;
		if (!at.n_bits)
			return 0;
		at.n_bits--;
	}
	prefix_mask(&at);
	*ret_prefix = at;
	*ret_entry = entry;
	return 1;
}

static __u32 flag_of(enum tproxy_block_kind kind)
{
	return kind == TPROXY_BLOCK ? TPROXY_BLOCK_ENTRIES : TPROXY_BLOCK_ALLOWS;
}

/* Clears the flag of a trie that is empty now, and detaches the hooks if nothing is blocked. */
static void note_removal(struct block_store *s, enum tproxy_block_kind kind)
{
	struct tproxy_prefix first;

	if (bpf_map_get_next_key(s->tries[kind], NULL, &first) != -ENOENT)
		return;
	block_store_facts(s)->n_entries[kind] = 0;
	block_store_change_state(s, 0, flag_of(kind));
	block_store_detach(s);
}

/* An entry that was there before, or one with n_bits above all if there was none. */
#define NONE (PREFIX_BITS_MAX + 1)

static int read_olds(const struct block_store *s, enum tproxy_block_kind kind,
		     const struct block_items *items, struct tproxy_block_entry *olds,
		     size_t *ret_new)
{
	size_t i;
	int r;

	*ret_new = 0;
	for (i = 0; i < items->n; i++) {
		r = block_store_get(s, kind, &items->list[i].prefix, &olds[i]);
		if (r < 0)
			return r;
		if (r == 0) {
			olds[i].n_bits = NONE;
			++*ret_new;
		}
	}
	return 0;
}

static int put_one(struct block_store *s, enum tproxy_block_kind kind, struct block_item item,
		   const struct tproxy_block_entry *old)
{
	struct tproxy_block_slot *facts = block_store_facts(s);
	int r;

	if (old->n_bits != NONE) {
		item.entry.packets = old->packets;
		item.entry.bytes = old->bytes;
		item.entry.last_ns = old->last_ns;
	}
	block_store_note_end(facts, &item.entry);
	r = bpf_map_update_elem(s->tries[kind], &item.prefix, &item.entry, BPF_ANY);
	if (r == 0 && old->n_bits == NONE)
		facts->n_entries[kind]++;
	return r;
}

/* Takes back the first @n changes of block_store_put(). */
static void undo_put(struct block_store *s, enum tproxy_block_kind kind,
		     const struct block_items *items, const struct tproxy_block_entry *olds,
		     size_t n)
{
	while (n--) {
		const struct tproxy_prefix *prefix = &items->list[n].prefix;

		if (olds[n].n_bits != NONE)
			bpf_map_update_elem(s->tries[kind], prefix, &olds[n], BPF_ANY);
		else if (bpf_map_delete_elem(s->tries[kind], prefix) == 0)
			block_store_facts(s)->n_entries[kind]--;
	}
	note_removal(s, kind);
}

int block_store_put(struct block_store *s, enum tproxy_block_kind kind,
		    const struct block_items *items)
{
	_cleanup_free_ struct tproxy_block_entry *olds = calloc(items->n + 1, sizeof(*olds));
	struct tproxy_block_slot *facts = block_store_facts(s);
	size_t n_new = 0, i;
	int r;

	r = olds ? read_olds(s, kind, items, olds, &n_new) : log_out_of_memory();
	if (r < 0 || !items->n)
		return r;
	if (facts->n_entries[kind] + n_new > TPROXY_BLOCK_ENTRIES_MAX) {
		log_err("the list has %u entries, and room for %u: %zu more do not fit",
			facts->n_entries[kind], TPROXY_BLOCK_ENTRIES_MAX, n_new);
		return -ENOSPC;
	}
	r = kind == TPROXY_BLOCK ? block_store_attach(s) : 0;
	if (r < 0)
		return r;
	block_store_change_state(s, TPROXY_BLOCK_CHANGING, 0);
	for (i = 0; i < items->n; i++) {
		r = put_one(s, kind, items->list[i], &olds[i]);
		if (r < 0) {
			undo_put(s, kind, items, olds, i);
			block_store_change_state(s, 0, TPROXY_BLOCK_CHANGING);
			return block_store_log_error(s, "write the block list", r);
		}
	}
	facts->loaded_ns = monotonic_kernel_ns();
	block_store_change_state(s, flag_of(kind), TPROXY_BLOCK_CHANGING);
	return 0;
}

int block_store_remove(struct block_store *s, enum tproxy_block_kind kind,
		       const struct block_items *items, size_t *ret_n)
{
	struct tproxy_block_slot *facts = block_store_facts(s);
	size_t i, n = 0;
	int r = 0;

	block_store_change_state(s, TPROXY_BLOCK_CHANGING, 0);
	for (i = 0; i < items->n && r == 0; i++) {
		r = bpf_map_delete_elem(s->tries[kind], &items->list[i].prefix);
		n += r == 0;
		r = r == -ENOENT ? 0 : r;
	}
	*ret_n = n;
	if (n) {
		facts->n_entries[kind] -=
			n < facts->n_entries[kind] ? (__u32)n : facts->n_entries[kind];
		facts->loaded_ns = monotonic_kernel_ns();
		note_removal(s, kind);
	}
	block_store_change_state(s, 0, TPROXY_BLOCK_CHANGING);
	return r < 0 ? block_store_log_error(s, "write the block list", r) : 0;
}

/* Removes from one trie, and notes the ends of what stays in *later. */
static int purge_trie(struct block_store *s, enum tproxy_block_kind kind, struct block_items *items,
		      uint64_t now, size_t *n, struct tproxy_block_slot *later)
{
	struct block_items ended = {};
	size_t i, removed = 0;
	int r = 0;

	for (i = 0; i < items->n && r == 0; i++) {
		const struct block_item *item = &items->list[i];

		if (!block_entry_ended(&item->entry, now))
			block_store_note_end(later, &item->entry);
		else if (block_items_add(&ended, &item->prefix, &item->entry) < 0)
			r = log_out_of_memory();
	}
	if (r == 0)
		r = block_store_remove(s, kind, &ended, &removed);
	*n += removed;
	free(ended.list);
	return r;
}

int block_store_purge(struct block_store *s, uint64_t now, size_t *ret_n)
{
	struct tproxy_block_slot *facts = block_store_facts(s);
	struct tproxy_block_slot later = {};
	struct block_list list = {};
	enum tproxy_block_kind kind;
	int r;

	*ret_n = 0;
	if (!facts->next_end_ns || facts->next_end_ns > now)
		return 0;
	r = block_store_read(s, &list);
	if (r < 0)
		return r;
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX && r == 0; kind++) {
		facts->n_entries[kind] = (__u32)list.kinds[kind].n;
		r = purge_trie(s, kind, &list.kinds[kind], now, ret_n, &later);
	}
	/*
	 * One store, last: after a failure, or if this process is killed in between, the next
	 * command looks again.
	 */
	if (r == 0)
		facts->next_end_ns = later.next_end_ns;
	block_list_finish(&list);
	return r;
}

void block_store_set_error(struct block_store *s, uint32_t error)
{
	block_store_facts(s)->error = error;
}
