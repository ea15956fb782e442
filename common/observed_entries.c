// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See observed_entries.h. Both maps are read in batches. map_observed_slots can be mapped into
 * memory only by those who may write it.
 */
#include "observed_entries.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpffs.h"
#include "objects.h"
#include "tproxy_abi.h"
#include "util.h"

#define BATCH_MAX 1024

struct walk {
	observed_entries_fn fn;
	void *data; /* of fn */
};

/* Passes the entries of a batch on, until a result is not 0. */
typedef int (*batch_fn)(const struct walk *walk, const void *keys, const void *values, size_t n);

static int pass_slots(const struct walk *walk, const void *keys, const void *values, size_t n)
{
	const struct tproxy_observed_slot *slots = values;
	size_t i;
	int r = 0;

	(void)keys;
	for (i = 0; i < n && r == 0; i++) {
		if (slots[i].cookie && !(slots[i].cookie & TPROXY_OBSERVED_BUSY))
			r = walk->fn(slots[i].cookie, &slots[i].conn, walk->data);
	}
	return r;
}

static int pass_hashed(const struct walk *walk, const void *keys, const void *values, size_t n)
{
	const struct tproxy_observed *conns = values;
	const __u64 *cookies = keys;
	size_t i;
	int r = 0;

	for (i = 0; i < n && r == 0; i++)
		r = walk->fn(cookies[i], &conns[i], walk->data);
	return r;
}

static int read_batches(int fd, enum pinned_map_id id, batch_fn pass, const struct walk *walk)
{
	_cleanup_free_ char *values = calloc(BATCH_MAX, pinned_maps[id].value_size);
	_cleanup_free_ char *keys = calloc(BATCH_MAX, pinned_maps[id].key_size);
	/* Where the next batch begins, in the kernel's own form. */
	__u64 position = 0, *from = NULL;
	__u32 count;
	int r, done;

	if (!values || !keys)
		return -ENOMEM;
	do {
		count = BATCH_MAX;
		r = bpf_map_lookup_batch(fd, from, &position, keys, values, &count, NULL);
		if (r < 0 && r != -ENOENT)
			return r;
		from = &position;
		done = pass(walk, keys, values, count);
	} while (r == 0 && done == 0);
	return done;
}

int observed_entries_walk(int slots_fd, int hash_fd, observed_entries_fn fn, void *data)
{
	const struct walk walk = { .fn = fn, .data = data };
	const int r = read_batches(slots_fd, PINNED_OBSERVED_SLOTS, pass_slots, &walk);

	return r ? r : read_batches(hash_fd, PINNED_OBSERVED, pass_hashed, &walk);
}

int observed_entries_walk_pinned(const char *pin_dir, observed_entries_fn fn, void *data)
{
	_cleanup_close_ int slots_fd = -1, hash_fd = -1;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_OBSERVED_SLOTS, /* writable= */ false, &slots_fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_OBSERVED, /* writable= */ false, &hash_fd);
	return r < 0 ? r : observed_entries_walk(slots_fd, hash_fd, fn, data);
}
