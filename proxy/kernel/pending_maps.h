/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What pending.c, pending_ring.c and pending_pair.c share: the maps of pending connections of one
 * load, and the rings of them that this relay owns. Private to them.
 */
#ifndef TPROXY_KERNEL_PENDING_MAPS_H
#define TPROXY_KERNEL_PENDING_MAPS_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

/* The maps by which the program that is attached to our listeners chooses. */
#define PENDING_USED_BY_PICK 6

struct pending_ring {
	struct pending_maps *maps;
	uint32_t index;
	uint32_t size; /* of the data, a power of two */
	int fd;
	void *consumer_page; /* written here */
	void *pages;	     /* the producer's page and the data, twice */
	unsigned long position;
	uint32_t step; /* of the event that pending_next() has returned; 0: it came from the scan */
	/* Slots that the owner before us may have left: the next one; TPROXY_PENDING_MAX: done. */
	uint32_t scan;
	/* Ports of our pairs, in host byte order; 0: not ours. */
	_Atomic uint16_t ports[TPROXY_PAIRS_OF_RING];
};

struct pending_maps {
	_Atomic uint32_t references;
	uint64_t owner;
	uint32_t ids[PENDING_USED_BY_PICK];
	int socks_fd, pairs_fd, program_fd;
	const struct tproxy_pending *slots;
	_Atomic uint64_t *answers;
	struct tproxy_ring *owners;
	uint32_t n_rings;
	struct pending_ring *rings[TPROXY_RINGS_MAX];
	char pin_dir[PATH_MAX];
};

/* Returns generation and state of a slot. */
static inline uint64_t pending_word(const struct pending_maps *maps, uint32_t slot)
{
	return __atomic_load_n(&maps->slots[slot].word, __ATOMIC_ACQUIRE);
}

static inline bool pending_ring_is_ours(const struct pending_maps *maps, uint32_t index)
{
	return __atomic_load_n(&maps->owners[index].owner, __ATOMIC_ACQUIRE) == maps->owner;
}

size_t pending_page_size(void);
/* Unmaps all pages of a mapping. memory may be NULL. */
void pending_unmap(const void *memory, size_t size);
/*
 * Opens the pin of an object without a row in the table of maps. flags: BPF_F_RDONLY, or 0. Returns
 * a descriptor or -errno.
 */
int pending_open_pin(const char *pin_dir, const char *name, uint32_t flags);
/* Closes a ring, which need not be open as a whole, and frees it. Its owner stays. */
void pending_ring_close(struct pending_ring *ring);

#endif
