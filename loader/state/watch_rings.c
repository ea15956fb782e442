// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See watch_rings.h, and map_interest in tproxy_abi.h.
 *
 * The pin of map_interest is opened twice: as a map, which is mapped into memory, and as a file,
 * for the locks. A lock of byte SLOT proves that the owner of a slot lives. It belongs to the open
 * file and ends with it, however the process ends. Bits and times are written to the map's memory,
 * because an update of the map would overwrite what the kernel half counts at the same time.
 *
 * The order at the start: the ring is put into its slot, then alive_ns is set, then the bit. At the
 * end the bit is cleared first.
 */
#include "watch_rings.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpffs.h"
#include "inner_maps.h"
#include "monotonic.h"
#include "util.h"

#define NS_PER_MS 1000000

struct watch_rings {
	char path[PATH_MAX]; /* of the pin of map_interest */
	int lock_fd;
	int rings_fd; /* map_watch_rings */
	uint32_t slot;
	bool has_slot, inbound;
	struct tproxy_interest *state; /* MAP_FAILED: not mapped */
	struct ring_buffer *ring;
	uint64_t lost; /* as last read */
	uint64_t renewed_ns, gap_ns;
	/* set while watch_rings_read() runs */
	void (*fn)(const struct tproxy_watch_head *event, size_t size, void *data);
	void *data;
};

static size_t map_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int on_sample(void *ctx, void *data, size_t size)
{
	struct watch_rings *rings = ctx;

	if (size >= sizeof(struct tproxy_watch_head))
		rings->fn(data, size, rings->data);
	return 0;
}

/* Renews alive_ns, and sets the bit again if the kernel half has cleared it. */
static void renew(struct watch_rings *rings)
{
	struct tproxy_interest *state = rings->state;
	const uint64_t now = monotonic_kernel_ns();
	const uint32_t bit = 1U << rings->slot;

	if (rings->renewed_ns && now - rings->renewed_ns > TPROXY_WATCH_ALIVE_NS)
		rings->gap_ns += now - rings->renewed_ns;
	rings->renewed_ns = now;
	__atomic_store_n(&state->watchers[rings->slot].alive_ns, now, __ATOMIC_SEQ_CST);
	if (rings->inbound)
		__atomic_fetch_or(&state->inbound, bit, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&state->watching, bit, __ATOMIC_SEQ_CST);
}

static void clear_bits(struct watch_rings *rings)
{
	const uint32_t bit = 1U << rings->slot;

	__atomic_fetch_and(&rings->state->watching, ~bit, __ATOMIC_SEQ_CST);
	__atomic_fetch_and(&rings->state->inbound, ~bit, __ATOMIC_SEQ_CST);
}

/* Locks the first free slot. */
static int take_slot(struct watch_rings *rings)
{
	for (rings->slot = 0; rings->slot < TPROXY_WATCHERS_MAX; rings->slot++) {
		struct flock lock = {
			.l_type = F_WRLCK,
			.l_whence = SEEK_SET,
			.l_start = rings->slot,
			.l_len = 1,
		};

		if (fcntl(rings->lock_fd, F_OFD_SETLK, &lock) == 0) {
			rings->has_slot = true;
			return 0;
		}
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
	}
	return -EBUSY;
}

static int open_maps(const char *pin_dir, struct watch_rings *rings)
{
	_cleanup_close_ int fd = -1;
	int r;

	r = snprintf(rings->path, sizeof(rings->path), "%s/%s", pin_dir,
		     pinned_maps[PINNED_INTEREST].name);
	if (r < 0 || (size_t)r >= sizeof(rings->path))
		return -ENAMETOOLONG;
	r = bpffs_open_map(pin_dir, PINNED_INTEREST, /* writable= */ true, &fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_WATCH_RINGS, /* writable= */ true,
				   &rings->rings_fd);
	if (r < 0)
		return r;
	rings->state = mmap(NULL, map_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rings->state == MAP_FAILED)
		return -errno;
	rings->lock_fd = open(rings->path, O_RDWR | O_CLOEXEC);
	return rings->lock_fd < 0 ? -errno : 0;
}

/* Makes the ring and puts it into the slot. */
static int make_ring(struct watch_rings *rings, uint32_t size)
{
	_cleanup_close_ int fd = -1;
	int r;

	fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "watch_ring", 0, 0, size, NULL);
	if (fd < 0)
		return fd;
	/* A watcher that was killed has left its bits. */
	clear_bits(rings);
	r = inner_map_put(rings->rings_fd, rings->slot, fd);
	if (r < 0)
		return r;
	/* The mappings hold a reference to the map, so its descriptor can be closed. */
	rings->ring = ring_buffer__new(fd, on_sample, rings, NULL);
	return rings->ring ? 0 : -errno;
}

int watch_rings_open(const char *pin_dir, uint32_t size, bool inbound,
		     struct watch_rings **ret_rings)
{
	struct watch_rings *rings = calloc(1, sizeof(*rings));
	int r;

	if (!rings)
		return -ENOMEM;
	rings->lock_fd = rings->rings_fd = -1;
	rings->state = MAP_FAILED;
	rings->inbound = inbound;
	r = open_maps(pin_dir, rings);
	if (r == 0)
		r = take_slot(rings);
	if (r == 0)
		r = make_ring(rings, size);
	if (r < 0) {
		watch_rings_close(rings);
		return r;
	}
	rings->lost = rings->state->watchers[rings->slot].lost;
	renew(rings);
	*ret_rings = rings;
	return 0;
}

void watch_rings_close(struct watch_rings *rings)
{
	if (!rings)
		return;
	if (rings->has_slot) {
		clear_bits(rings);
		inner_map_remove(rings->rings_fd, rings->slot);
	}
	ring_buffer__free(rings->ring);
	if (rings->state != MAP_FAILED)
		munmap(rings->state, map_size());
	util_closep(&rings->rings_fd);
	util_closep(&rings->lock_fd);
	free(rings);
}

int watch_rings_read(struct watch_rings *rings,
		     void (*fn)(const struct tproxy_watch_head *event, size_t size, void *data),
		     void *data)
{
	int r;

	renew(rings);
	rings->fn = fn;
	rings->data = data;
	r = ring_buffer__consume(rings->ring);
	return r < 0 ? r : 0;
}

uint64_t watch_rings_take_lost(struct watch_rings *rings)
{
	const uint64_t now =
		__atomic_load_n(&rings->state->watchers[rings->slot].lost, __ATOMIC_RELAXED);
	const uint64_t lost = now - rings->lost;

	rings->lost = now;
	return lost;
}

uint64_t watch_rings_take_gap_ms(struct watch_rings *rings)
{
	const uint64_t gap_ms = rings->gap_ns / NS_PER_MS;

	rings->gap_ns = 0;
	return gap_ms;
}

bool watch_rings_are_pinned(const struct watch_rings *rings)
{
	struct stat opened, pinned;

	return fstat(rings->lock_fd, &opened) == 0 && stat(rings->path, &pinned) == 0 &&
	       opened.st_dev == pinned.st_dev && opened.st_ino == pinned.st_ino;
}
