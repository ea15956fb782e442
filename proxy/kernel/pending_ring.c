// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The rings of pending.h: who owns one, and reading its events.
 *
 * Rings are read here and not by libbpf: its ring_buffer__consume() removes an event also if the
 * callback tells it to stop. At the limit of sessions, an event must stay where it is, as a client
 * stays in the backlog. The layout is documented (Documentation/bpf/ringbuf.rst): a page with the
 * consumer's position, a page with the producer's, and the data twice, so that no event is cut. The
 * group can write the first page, so the position is kept here and only copied there.
 */
#include "pending.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "monotonic.h"
#include "objects.h"
#include "pending_maps.h"

/* Opens ring number index. Returns 0 or -errno. */
static int ring_open(struct pending_maps *maps, uint32_t index, bool scan)
{
	struct pending_ring *ring = calloc(1, sizeof(*ring));
	const size_t page = pending_page_size();
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	char name[PINNED_RING_LEN];
	int r;

	if (!ring)
		return -ENOMEM;
	pinned_ring_name(index, name);
	ring->maps = maps;
	ring->index = index;
	ring->scan = scan ? 0 : TPROXY_PENDING_MAX;
	ring->fd = pending_open_pin(maps->pin_dir, name, 0);
	r = ring->fd < 0 ? ring->fd : bpf_obj_get_info_by_fd(ring->fd, &info, &len);
	if (r < 0) {
		pending_ring_close(ring);
		return r;
	}
	ring->size = info.max_entries;
	ring->consumer_page = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	r = ring->consumer_page == MAP_FAILED ? -errno : 0;
	if (r < 0)
		ring->consumer_page = NULL;
	ring->pages = mmap(NULL, page + 2 * (size_t)ring->size, PROT_READ, MAP_SHARED, ring->fd,
			   (off_t)page);
	if (ring->pages == MAP_FAILED) {
		r = -errno;
		ring->pages = NULL;
	}
	if (r < 0) {
		pending_ring_close(ring);
		return r;
	}
	ring->position = *(const unsigned long *)ring->consumer_page;
	maps->rings[maps->n_rings++] = ring;
	return 0;
}

/* True if the ring has no owner, or one that has sent no heartbeat for too long. */
static bool is_free(const struct tproxy_ring *owner, uint64_t now_ns)
{
	const uint64_t alive_ns = __atomic_load_n(&owner->alive_ns, __ATOMIC_ACQUIRE);

	return !__atomic_load_n(&owner->owner, __ATOMIC_ACQUIRE) ||
	       (alive_ns < now_ns && now_ns - alive_ns > TPROXY_STALE_NS);
}

/*
 * Two relays may see a ring of a dead one at the same time. The second exchange then replaces the
 * first owner, whose next heartbeat notices that.
 */
static bool take(struct pending_maps *maps, uint32_t index)
{
	struct tproxy_ring *owner = &maps->owners[index];
	__u64 before = __atomic_load_n(&owner->owner, __ATOMIC_ACQUIRE);
	const uint64_t now_ns = monotonic_kernel_ns();

	if (before != maps->owner &&
	    (!is_free(owner, now_ns) ||
	     !__atomic_compare_exchange_n(&owner->owner, &before, maps->owner, /* weak= */ false,
					  __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)))
		return false;
	/* The limit of the previous owner must not count until our first heartbeat. */
	__atomic_store_n(&owner->dial_ms, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&owner->alive_ns, now_ns, __ATOMIC_RELEASE);
	return true;
}

static void give_back(const struct pending_maps *maps, uint32_t index)
{
	__u64 owner = maps->owner;

	__atomic_compare_exchange_n(&maps->owners[index].owner, &owner, 0, /* weak= */ false,
				    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static bool has_ring(const struct pending_maps *maps, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < maps->n_rings; i++) {
		if (maps->rings[i]->index == index)
			return true;
	}
	return false;
}

/* Whose rings are claimed, in this order. In ours clients wait for an answer already. */
enum claim {
	CLAIM_OURS,
	CLAIM_NOBODYS,
	CLAIM_DEAD, /* its owner sends no heartbeats, but may be stopped and go on */
	_CLAIM_MAX,
};

static bool is_of(const struct pending_maps *maps, uint32_t index, enum claim claim)
{
	const struct tproxy_ring *owner = &maps->owners[index];

	switch (claim) {
	case CLAIM_OURS:
		return pending_ring_is_ours(maps, index);
	case CLAIM_NOBODYS:
		return !__atomic_load_n(&owner->owner, __ATOMIC_ACQUIRE);
	default:
		return !pending_ring_is_ours(maps, index) && is_free(owner, monotonic_kernel_ns());
	}
}

/* Claims ring number index. Returns false if that is not possible. */
static bool claim_one(struct pending_maps *maps, uint32_t index, enum claim claim)
{
	if (has_ring(maps, index) || !is_of(maps, index, claim) || !take(maps, index))
		return false;
	if (ring_open(maps, index, /* scan= */ claim == CLAIM_OURS) == 0)
		return true;
	give_back(maps, index);
	return false;
}

uint32_t pending_claim(struct pending_maps *maps, uint32_t most)
{
	uint32_t n_free = 0, i;
	enum claim claim;

	for (i = 0; i < TPROXY_RINGS_MAX; i++)
		n_free += is_of(maps, i, CLAIM_NOBODYS) || is_of(maps, i, CLAIM_DEAD);
	n_free = (n_free + 1) / 2;
	for (claim = 0; claim < _CLAIM_MAX; claim++) {
		for (i = 0; i < TPROXY_RINGS_MAX && maps->n_rings < most; i++) {
			if ((claim == CLAIM_OURS || n_free > 0) && claim_one(maps, i, claim))
				n_free -= claim != CLAIM_OURS;
		}
	}
	return maps->n_rings;
}

struct pending_ring *pending_ring(struct pending_maps *maps, uint32_t i)
{
	return maps->rings[i];
}

uint32_t pending_ring_index(const struct pending_ring *ring)
{
	return ring->index;
}

bool pending_heartbeat(struct pending_maps *maps, uint64_t dial_ms)
{
	const uint32_t limit_ms = dial_ms > UINT32_MAX ? 0 : (uint32_t)dial_ms;
	const uint64_t now_ns = monotonic_kernel_ns();
	bool all = true;
	uint32_t i;

	for (i = 0; i < maps->n_rings; i++) {
		struct tproxy_ring *owner = &maps->owners[maps->rings[i]->index];

		if (!pending_ring_is_ours(maps, maps->rings[i]->index)) {
			all = false;
			continue;
		}
		__atomic_store_n(&owner->dial_ms, limit_ms, __ATOMIC_RELAXED);
		__atomic_store_n(&owner->alive_ns, now_ns, __ATOMIC_RELEASE);
	}
	return all;
}

void pending_release(struct pending_maps *maps)
{
	uint32_t i;

	for (i = 0; maps && i < maps->n_rings; i++)
		give_back(maps, maps->rings[i]->index);
}

int pending_ring_fd(const struct pending_ring *ring)
{
	return ring->fd;
}

/* Returns the next slot that the owner before us was to dial and has not answered. */
static bool next_left(struct pending_ring *ring, struct tproxy_pending_event *ret_event)
{
	const struct pending_maps *maps = ring->maps;

	for (; ring->scan < TPROXY_PENDING_MAX; ring->scan++) {
		const uint64_t word = pending_word(maps, ring->scan);

		if (!tproxy_pending_is_notified(TPROXY_WORD_LOW(word)) ||
		    maps->slots[ring->scan].ring != ring->index ||
		    TPROXY_WORD_GENERATION(maps->answers[ring->scan]) ==
			    TPROXY_WORD_GENERATION(word))
			continue;
		*ret_event = (struct tproxy_pending_event){
			.kind = TPROXY_PENDING_SYN,
			.slot = ring->scan,
			.generation = TPROXY_WORD_GENERATION(word),
		};
		return true;
	}
	return false;
}

static void move_to(struct pending_ring *ring, unsigned long position)
{
	ring->position = position;
	__atomic_store_n((unsigned long *)ring->consumer_page, position, __ATOMIC_SEQ_CST);
}

bool pending_next(struct pending_ring *ring, struct tproxy_pending_event *ret_event)
{
	const char *data = (const char *)ring->pages + pending_page_size();
	unsigned long produced;

	ring->step = 0;
	/* This process was stopped for long. The new owner's events are not for us. */
	if (!pending_ring_is_ours(ring->maps, ring->index))
		return false;
	if (next_left(ring, ret_event))
		return true;
	for (;;) {
		const uint32_t *header = (const void *)(data + (ring->position & (ring->size - 1)));
		uint32_t len;

		produced = __atomic_load_n((const unsigned long *)ring->pages, __ATOMIC_ACQUIRE);
		if (produced == ring->position)
			return false;
		/* Another member of the group has changed the page before we opened it. */
		if (produced - ring->position > ring->size || ring->position % 8) {
			move_to(ring, produced);
			return false;
		}
		len = __atomic_load_n(header, __ATOMIC_ACQUIRE);
		if (len & BPF_RINGBUF_BUSY_BIT)
			return false;
		ring->step = ((len & ~BPF_RINGBUF_DISCARD_BIT) + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
		if (len == sizeof(*ret_event)) {
			memcpy(ret_event, (const char *)header + BPF_RINGBUF_HDR_SZ, len);
			if (ret_event->slot < TPROXY_PENDING_MAX)
				return true;
		}
		move_to(ring, ring->position + ring->step);
	}
}

void pending_consumed(struct pending_ring *ring)
{
	if (ring->step)
		move_to(ring, ring->position + ring->step);
	else
		ring->scan++;
}
