// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl and tproxy-load: the maps of the block list, see slots.h. */
#include "slots.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "log.h"
#include "objects.h"
#include "state/maps.h"
#include "state/on_demand.h"
#include "state/pins.h"
#include "state/slot_pins.h"
#include "util.h"

/* Entries that one system call reads. */
#define READ_BATCH 4096

int block_store_log_error(const struct block_store *s, const char *what, int r)
{
	log_err("cannot %s in '%s': %s%s", what, s->pins->path, strerror(-r),
		r == -EPERM ? "; this takes CAP_SYS_ADMIN" : "");
	return r;
}

static size_t map_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* The kernel maps only what was opened for writing. A reader gets a copy. */
static int open_block(struct block_store *s, bool writable)
{
	_cleanup_close_ int fd = -1;
	const __u32 key = 0;
	void *memory;
	int r;

	r = maps_open(s->pins->path, PINNED_BLOCK, writable, &fd);
	if (r < 0)
		return r;
	if (!writable) {
		s->block = &s->copy;
		r = bpf_map_lookup_elem(fd, &key, s->block);
		return r < 0 ? block_store_log_error(s, "read the block list", r) : 0;
	}
	memory = mmap(NULL, map_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return block_store_log_error(s, "map the block list", -errno);
	s->block = memory;
	return 0;
}

static int open_maps(struct block_store *s, bool writable)
{
	int r = open_block(s, writable);

	if (r == 0)
		r = maps_open(s->pins->path, PINNED_BLOCK_TRIES, writable, &s->tries_fd);
	if (r == 0)
		r = maps_open(s->pins->path, PINNED_BLOCK_TEXTS, writable, &s->texts_fd);
	if (r == 0)
		r = maps_open(s->pins->path, PINNED_BLOCK_STATS, /* writable= */ false,
			      &s->stats_fd);
	return r;
}

int block_store_open_trie(const struct block_store *s, unsigned int slot,
			  enum tproxy_block_kind kind, bool writable, int *ret_fd)
{
	const unsigned int i = TPROXY_BLOCK_TRIE(slot, kind);
	int r;

	r = (writable ? slot_pins_open_used : slot_pins_open_read)(s->pins, s->tries_fd, i,
								   PINNED_BLOCK_0 + i, ret_fd);
	return r < 0 ? block_store_log_error(s, "open the block list", r) : 0;
}

int block_store_open_slots(const struct pins *pins, bool writable, struct block_store *s)
{
	enum tproxy_block_kind kind;
	int r;

	s->pins = pins;
	r = open_maps(s, writable);
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX && r == 0; kind++)
		r = block_store_open_trie(s, block_store_slot(s), kind, writable, &s->tries[kind]);
	return r;
}

void block_store_close(struct block_store *s)
{
	size_t i;

	if (s->block && s->block != &s->copy)
		munmap(s->block, map_size());
	util_closep(&s->tries_fd);
	util_closep(&s->texts_fd);
	util_closep(&s->stats_fd);
	for (i = 0; i < _TPROXY_BLOCK_KIND_MAX; i++)
		util_closep(&s->tries[i]);
	*s = (struct block_store)BLOCK_STORE_NULL;
}

uint64_t block_store_count_hits(const struct block_store *s)
{
	const int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_block_stat *stats = NULL;
	uint64_t hits = 0;
	__u32 place;
	int i;

	stats = n_cpus < 0 ? NULL : calloc((size_t)n_cpus, sizeof(*stats));
	for (place = 0; stats && place < _TPROXY_PLACE_MAX; place++) {
		if (bpf_map_lookup_elem(s->stats_fd, &place, stats) < 0)
			continue;
		for (i = 0; i < n_cpus; i++)
			hits += stats[i].dropped + stats[i].allowed + stats[i].control;
	}
	return hits;
}

/* Room for one system call. */
struct batch {
	struct tproxy_prefix keys[READ_BATCH];
	struct tproxy_block_entry values[READ_BATCH];
};

/*
 * Reads a trie. A reader without the lock may meet changes: if the key at which it goes on was
 * removed, the kernel starts again. So the number of steps is limited.
 */
int block_store_read_trie(const struct block_store *s, int fd, size_t expected,
			  struct block_items *ret_items)
{
	_cleanup_free_ struct batch *batch = malloc(sizeof(*batch));
	struct block_items items = {};
	struct tproxy_prefix next;
	bool begun = false;
	__u32 count, i;
	int r = batch ? 0 : -ENOMEM;

	while (r == 0 && items.n <= 2 * TPROXY_BLOCK_ENTRIES_MAX) {
		count = READ_BATCH;
		r = bpf_map_lookup_batch(fd, begun ? &next : NULL, &next, batch->keys,
					 batch->values, &count, NULL);
		if (r < 0 && r != -ENOENT)
			break;
		begun = true;
		for (i = 0; i < count && r != -ENOMEM; i++) {
			if (block_items_add(&items, &batch->keys[i], &batch->values[i]) < 0)
				r = -ENOMEM;
		}
		if (s->on_progress)
			s->on_progress("read", items.n, expected);
	}
	if (r < 0 && r != -ENOENT) {
		free(items.list);
		return block_store_log_error(s, "read the block list", r);
	}
	block_items_sort(&items);
	*ret_items = items;
	return 0;
}

int block_store_read_tries(const struct block_store *s, const int tries[_TPROXY_BLOCK_KIND_MAX],
			   const __u32 *expected, struct block_list *ret_list)
{
	struct block_list list = {};
	enum tproxy_block_kind kind;
	int r = 0;

	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX && r == 0; kind++)
		r = block_store_read_trie(s, tries[kind], expected[kind], &list.kinds[kind]);
	if (r < 0) {
		block_list_finish(&list);
		return r;
	}
	*ret_list = list;
	return 0;
}

void block_store_change_state(struct block_store *s, __u32 set, __u32 clear)
{
	__u64 *word = &s->block->state_and_changes;
	struct tproxy_block before = {}, after = {};

	before.state_and_changes = __atomic_load_n(word, __ATOMIC_SEQ_CST);
	do {
		after.state = (before.state & ~clear) | set;
		after.changes = before.changes + 1;
	} while (!__atomic_compare_exchange_n(word, &before.state_and_changes,
					      after.state_and_changes, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
}

int block_store_attach(struct block_store *s)
{
	int r;

	if (s->block->state & (TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_TRAFFIC))
		return 0;
	r = on_demand_attach(s->pins, HOOK_NEED_BLOCK);
	if (r < 0)
		on_demand_detach(s->pins, HOOK_NEED_BLOCK);
	return r;
}

void block_store_detach(struct block_store *s)
{
	if (!(s->block->state & (TPROXY_BLOCK_ENTRIES | TPROXY_BLOCK_TRAFFIC)))
		on_demand_detach(s->pins, HOOK_NEED_BLOCK);
}

void block_store_note_end(struct tproxy_block_slot *facts, const struct tproxy_block_entry *entry)
{
	if (entry->ends_ns && (!facts->next_end_ns || entry->ends_ns < facts->next_end_ns))
		facts->next_end_ns = entry->ends_ns;
}
