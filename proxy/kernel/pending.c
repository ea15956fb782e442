// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See pending.h, and tproxy_abi.h for the maps.
 *
 * Rings are read here and not by libbpf: its ring_buffer__consume() removes an event also if the
 * callback tells it to stop. At the limit of sessions, an event must stay where it is, as a client
 * stays in the backlog. The layout is documented (Documentation/bpf/ringbuf.rst): a page with the
 * consumer's position, a page with the producer's, and the data twice, so that no event is cut. The
 * group can write the first page, so the position is kept here and only copied there.
 *
 * A word of map_pending is read before and after what belongs to it. A word of map_verdicts is only
 * replaced by one of the same or a later generation: the slot may be another connection's already.
 */
#include "pending.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpffs.h"
#include "monotonic.h"
#include "parse.h"
#include "util.h"

#define PROGRAM_PIN "prog_pick"

/* The maps by which the program that is attached to our listeners chooses. */
static const enum pinned_map_id used_by_pick[] = {
	PINNED_PENDING, PINNED_VERDICTS, PINNED_PAIRS, PINNED_SOCKS, PINNED_PORTS, PINNED_LISTENERS,
};

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
	uint32_t ids[ARRAY_SIZE(used_by_pick)];
	int socks_fd, pairs_fd, program_fd;
	const struct tproxy_pending *slots;
	_Atomic uint64_t *answers;
	struct tproxy_ring *owners;
	uint32_t n_rings;
	struct pending_ring *rings[TPROXY_RINGS_MAX];
	char pin_dir[PATH_MAX];
};

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t whole_pages(size_t size)
{
	return (size + page_size() - 1) / page_size() * page_size();
}

/* Opens the pin of an object without a row in the table of maps. Returns a descriptor or -errno. */
static int open_pin(const char *pin_dir, const char *name, uint32_t flags)
{
	LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = flags);
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", pin_dir, name);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return bpf_obj_get_opts(path, &opts);
}

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
	memory = mmap(NULL, whole_pages(size), PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED,
		      fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	*ret_memory = memory;
	return 0;
}

static void unmap(const void *memory, size_t size)
{
	if (memory)
		munmap((void *)memory, whole_pages(size));
}

static void ring_close(struct pending_ring *ring)
{
	unmap(ring->consumer_page, page_size());
	unmap(ring->pages, page_size() + 2 * (size_t)ring->size);
	util_closep(&ring->fd);
	free(ring);
}

static void free_maps(struct pending_maps *maps)
{
	while (maps->n_rings > 0)
		ring_close(maps->rings[--maps->n_rings]);
	unmap(maps->slots, TPROXY_PENDING_MAX * sizeof(*maps->slots));
	unmap(maps->answers, TPROXY_PENDING_MAX * sizeof(*maps->answers));
	unmap(maps->owners, TPROXY_RINGS_MAX * sizeof(*maps->owners));
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
	maps->program_fd = open_pin(dir, PROGRAM_PIN, BPF_F_RDONLY);
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

/* Opens ring number index. Returns 0 or -errno. */
static int ring_open(struct pending_maps *maps, uint32_t index, bool scan)
{
	struct pending_ring *ring = calloc(1, sizeof(*ring));
	const size_t page = page_size();
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
	ring->fd = open_pin(maps->pin_dir, name, 0);
	r = ring->fd < 0 ? ring->fd : bpf_obj_get_info_by_fd(ring->fd, &info, &len);
	if (r < 0) {
		ring_close(ring);
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
		ring_close(ring);
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
	__atomic_store_n(&owner->alive_ns, now_ns, __ATOMIC_RELEASE);
	return true;
}

static void give_back(const struct pending_maps *maps, uint32_t index)
{
	__u64 owner = maps->owner;

	__atomic_compare_exchange_n(&maps->owners[index].owner, &owner, 0, /* weak= */ false,
				    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static bool is_ours(const struct pending_maps *maps, uint32_t index)
{
	return __atomic_load_n(&maps->owners[index].owner, __ATOMIC_ACQUIRE) == maps->owner;
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
		return is_ours(maps, index);
	case CLAIM_NOBODYS:
		return !__atomic_load_n(&owner->owner, __ATOMIC_ACQUIRE);
	default:
		return !is_ours(maps, index) && is_free(owner, monotonic_kernel_ns());
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

bool pending_heartbeat(struct pending_maps *maps)
{
	const uint64_t now_ns = monotonic_kernel_ns();
	bool all = true;
	uint32_t i;

	for (i = 0; i < maps->n_rings; i++) {
		struct tproxy_ring *owner = &maps->owners[maps->rings[i]->index];

		if (is_ours(maps, maps->rings[i]->index))
			__atomic_store_n(&owner->alive_ns, now_ns, __ATOMIC_RELEASE);
		else
			all = false;
	}
	return all;
}

void pending_release(struct pending_maps *maps)
{
	uint32_t i;

	for (i = 0; maps && i < maps->n_rings; i++)
		give_back(maps, maps->rings[i]->index);
}

static bool pair_is_free(const struct pending_maps *maps, uint32_t pair)
{
	const __u32 real = TPROXY_PAIR_REAL(pair), sink = TPROXY_PAIR_SINK(pair);
	__u64 cookie;

	return bpf_map_lookup_elem(maps->pairs_fd, &real, &cookie) == -ENOENT &&
	       bpf_map_lookup_elem(maps->pairs_fd, &sink, &cookie) == -ENOENT;
}

int pending_pair_choose(struct pending_maps *maps, const struct pending_ring *ring,
			uint32_t *ret_pair)
{
	const uint32_t first = TPROXY_PAIR_FIRST(ring->index);
	uint32_t i;

	/* The kernel empties an entry when its socket is closed. */
	for (i = 0; i < TPROXY_PAIRS_OF_RING; i++) {
		if (pair_is_free(maps, first + i)) {
			*ret_pair = first + i;
			return 0;
		}
	}
	return -ENOSPC;
}

static int set_pair(const struct pending_maps *maps, __u32 key, int fd)
{
	__u64 value = (__u64)fd;

	return bpf_map_update_elem(maps->pairs_fd, &key, &value, BPF_NOEXIST);
}

int pending_pair_add(struct pending_maps *maps, uint32_t pair, int real_fd, int sink_fd)
{
	int r;

	if (setsockopt(real_fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &maps->program_fd,
		       sizeof(maps->program_fd)) < 0)
		return -errno;
	r = set_pair(maps, TPROXY_PAIR_REAL(pair), real_fd);
	if (r == 0)
		r = set_pair(maps, TPROXY_PAIR_SINK(pair), sink_fd);
	if (r < 0)
		return r;
	return pending_pair_adopt(maps, pair, real_fd) ? 0 : -ENOENT;
}

struct pending_ring *pending_pair_adopt(struct pending_maps *maps, uint32_t pair, int real_fd)
{
	union sockaddr_any addr = {};
	socklen_t len = sizeof(addr);
	uint32_t i;

	for (i = 0; i < maps->n_rings; i++) {
		struct pending_ring *ring = maps->rings[i];

		if (pair / TPROXY_PAIRS_OF_RING != ring->index)
			continue;
		if (getsockname(real_fd, &addr.sa, &len) < 0)
			return NULL;
		ring->ports[pair % TPROXY_PAIRS_OF_RING] = ntohs(addr.in.sin_port);
		return ring;
	}
	return NULL;
}

int pending_ring_fd(const struct pending_ring *ring)
{
	return ring->fd;
}

static uint64_t word_of(const struct pending_maps *maps, uint32_t slot)
{
	return __atomic_load_n(&maps->slots[slot].word, __ATOMIC_ACQUIRE);
}

/* Returns the next slot that the owner before us was to dial and has not answered. */
static bool next_left(struct pending_ring *ring, struct tproxy_pending_event *ret_event)
{
	const struct pending_maps *maps = ring->maps;

	for (; ring->scan < TPROXY_PENDING_MAX; ring->scan++) {
		const uint64_t word = word_of(maps, ring->scan);

		if (TPROXY_WORD_LOW(word) != TPROXY_PENDING_NOTIFIED ||
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
	const char *data = (const char *)ring->pages + page_size();
	unsigned long produced;

	ring->step = 0;
	/* This process was stopped for long. The new owner's events are not for us. */
	if (!is_ours(ring->maps, ring->index))
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
	if (TPROXY_WORD_GENERATION(word_of(maps, p->slot)) != p->generation)
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
		state = TPROXY_WORD_LOW(word_of(maps, slot));
		if ((state == TPROXY_PENDING_WAITS || state == TPROXY_PENDING_NOTIFIED ||
		     state == TPROXY_PENDING_ACCEPT) &&
		    maps->slots[slot].ring < TPROXY_RINGS_MAX &&
		    is_ours(maps, maps->slots[slot].ring))
			return true;
	}
	return false;
}

enum pending_state pending_state(const struct pending_maps *maps, const struct pending *p)
{
	const uint64_t word = word_of(maps, p->slot);

	if (TPROXY_WORD_GENERATION(word) != p->generation)
		return PENDING_GONE;
	switch (TPROXY_WORD_LOW(word)) {
	case TPROXY_PENDING_WAITS:
	case TPROXY_PENDING_NOTIFIED:
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
