// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See pending.h, and tproxy_abi.h for the maps. This file opens them, and reads and answers slots.
 *
 * A word of map_pending is read before and after what belongs to it. A word of map_verdicts is only
 * replaced by one of the same or a later generation: the slot may be another connection's already.
 */
#include "pending.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bpffs.h"
#include "pending_maps.h"
#include "util.h"

#define PROGRAM_PIN "prog_pick"

static const enum pinned_map_id used_by_pick[PENDING_USED_BY_PICK] = {
	PINNED_PENDING, PINNED_VERDICTS, PINNED_PAIRS, PINNED_SOCKS, PINNED_PORTS, PINNED_LISTENERS,
};

/*
 * Maps an array into memory. The kernel maps no BPF map of a descriptor that is only for reading:
 * map_pending, which only programs can write, is opened for writing too. Returns 0 or -errno.
 */
static int map_array(const char *pin_dir, enum pinned_map_id id, bool writable, size_t size,
		     void **ret_memory)
{
	_cleanup_close_ int fd = -1;
	void *memory;
	int r;

	r = bpffs_open_map(pin_dir, id, /* writable= */ true, &fd);
	if (r < 0)
		return r;
	memory = mmap(NULL, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	*ret_memory = memory;
	return 0;
}

static void free_maps(struct pending_maps *maps)
{
	while (maps->n_rings > 0)
		pending_ring_close(maps->rings[--maps->n_rings]);
	pending_unmap(maps->slots, TPROXY_PENDING_MAX * sizeof(*maps->slots));
	pending_unmap(maps->answers, TPROXY_PENDING_MAX * sizeof(*maps->answers));
	pending_unmap(maps->owners, TPROXY_RINGS_MAX * sizeof(*maps->owners));
	util_closep(&maps->socks_fd);
	util_closep(&maps->pairs_fd);
	util_closep(&maps->program_fd);
	free(maps);
}

/* Reads the ids of the pinned maps of used_by_pick. Returns 0 or -errno. */
static int read_ids(const char *pin_dir, uint32_t *ret_ids)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < ARRAY_SIZE(used_by_pick); i++) {
		_cleanup_close_ int fd = -1;

		r = bpffs_open_map(pin_dir, used_by_pick[i], /* writable= */ false, &fd);
		if (r == 0)
			r = bpffs_map_id(fd, &ret_ids[i]);
	}
	return r;
}

static int open_all(struct pending_maps *maps)
{
	const char *dir = maps->pin_dir;
	void *memory;
	int r;

	r = read_ids(dir, maps->ids);
	if (r == 0)
		r = map_array(dir, PINNED_PENDING, /* writable= */ false,
			      TPROXY_PENDING_MAX * sizeof(*maps->slots), &memory);
	if (r < 0)
		return r;
	maps->slots = memory;
	r = map_array(dir, PINNED_VERDICTS, /* writable= */ true,
		      TPROXY_PENDING_MAX * sizeof(*maps->answers), &memory);
	if (r < 0)
		return r;
	maps->answers = memory;
	r = map_array(dir, PINNED_RING_OWNERS, /* writable= */ true,
		      TPROXY_RINGS_MAX * sizeof(*maps->owners), &memory);
	if (r < 0)
		return r;
	maps->owners = memory;
	r = bpffs_open_map(dir, PINNED_SOCKS, /* writable= */ false, &maps->socks_fd);
	if (r == 0)
		r = bpffs_open_map(dir, PINNED_PAIRS, /* writable= */ true, &maps->pairs_fd);
	if (r < 0)
		return r;
	maps->program_fd = pending_open_pin(dir, PROGRAM_PIN, BPF_F_RDONLY);
	return maps->program_fd < 0 ? maps->program_fd : 0;
}

int pending_open(const char *pin_dir, uint64_t owner, struct pending_maps **ret_maps)
{
	struct pending_maps *maps;
	int r;

	if (strlen(pin_dir) >= sizeof(maps->pin_dir))
		return -ENAMETOOLONG;
	maps = calloc(1, sizeof(*maps));
	if (!maps)
		return -ENOMEM;
	maps->references = 1;
	maps->owner = owner;
	maps->socks_fd = maps->pairs_fd = maps->program_fd = -1;
	strcpy(maps->pin_dir, pin_dir);
	r = open_all(maps);
	if (r < 0) {
		free_maps(maps);
		return r;
	}
	*ret_maps = maps;
	return 0;
}

struct pending_maps *pending_ref(struct pending_maps *maps)
{
	if (maps)
		atomic_fetch_add(&maps->references, 1);
	return maps;
}

void pending_unref(struct pending_maps *maps)
{
	if (maps && atomic_fetch_sub(&maps->references, 1) == 1)
		free_maps(maps);
}

bool pending_is_current(const struct pending_maps *maps, const char *pin_dir)
{
	uint32_t ids[ARRAY_SIZE(used_by_pick)];

	return read_ids(pin_dir, ids) == 0 && memcmp(ids, maps->ids, sizeof(ids)) == 0;
}

bool pending_is_replaced(const struct pending_maps *maps, const char *pin_dir)
{
	uint32_t ids[ARRAY_SIZE(used_by_pick)];

	return read_ids(pin_dir, ids) == 0 && memcmp(ids, maps->ids, sizeof(ids)) != 0;
}

int pending_conn(const struct pending_ring *ring, const struct pending *p,
		 struct tproxy_conn *ret_conn)
{
	const struct pending_maps *maps = ring->maps;
	const struct tproxy_pending *slot = &maps->slots[p->slot];
	const __u64 cookie = slot->cookie;
	const uint32_t pair = slot->pair;
	struct tproxy_conn conn;
	int r;

	r = bpf_map_lookup_elem(maps->socks_fd, &cookie, &conn);
	if (TPROXY_WORD_GENERATION(pending_word(maps, p->slot)) != p->generation)
		return -ESTALE;
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (conn.pending != p->slot + 1 || conn.generation != p->generation)
		return -ESTALE;
	if (pair / TPROXY_PAIRS_OF_RING != ring->index ||
	    ring->ports[pair % TPROXY_PAIRS_OF_RING] != conn.relay.port)
		return -EXDEV;
	*ret_conn = conn;
	return 0;
}

bool pending_is_answered(const struct pending_maps *maps, const struct pending *p)
{
	return TPROXY_WORD_GENERATION(maps->answers[p->slot]) == p->generation;
}

bool pending_is_any(const struct pending_maps *maps)
{
	uint32_t slot, state;

	for (slot = 0; slot < TPROXY_PENDING_MAX; slot++) {
		state = TPROXY_WORD_LOW(pending_word(maps, slot));
		if ((state == TPROXY_PENDING_WAITS || tproxy_pending_is_notified(state) ||
		     state == TPROXY_PENDING_ACCEPT) &&
		    maps->slots[slot].ring < TPROXY_RINGS_MAX &&
		    pending_ring_is_ours(maps, maps->slots[slot].ring))
			return true;
	}
	return false;
}

enum pending_state pending_state(const struct pending_maps *maps, const struct pending *p)
{
	const uint64_t word = pending_word(maps, p->slot);

	if (TPROXY_WORD_GENERATION(word) != p->generation)
		return PENDING_GONE;
	switch (TPROXY_WORD_LOW(word)) {
	case TPROXY_PENDING_WAITS:
	case TPROXY_PENDING_NOTIFIED:
	case TPROXY_PENDING_JOINING:
		return PENDING_WAITS;
	case TPROXY_PENDING_ESTABLISHED:
	case TPROXY_PENDING_CLOSED:
		return PENDING_ESTABLISHED;
	default:
		return PENDING_GONE;
	}
}

void pending_answer(const struct pending_maps *maps, const struct pending *p,
		    enum tproxy_answer answer)
{
	_Atomic uint64_t *word = &maps->answers[p->slot];
	uint64_t before = *word;

	while (TPROXY_WORD_GENERATION(before) <= p->generation &&
	       !atomic_compare_exchange_weak(word, &before, TPROXY_WORD(p->generation, answer)))
		;
}
