// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load --follow. See follow_block.h.
 *
 * An entry that has ended blocks nothing: the kernel half compares the time. It is removed to free
 * its memory, and so that block_in and block_out do not stay attached for nothing.
 */
#include "follow_block.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "block/store.h"
#include "bpffs.h"
#include "log.h"
#include "monotonic.h"
#include "objects.h"
#include "state/pins.h"
#include "state/wait_lock.h"
#include "tproxy_abi.h"
#include "types.h"
#include "util.h"

static bool has_ended(const struct tproxy_block *block, uint64_t now)
{
	const uint64_t next = block->slots[block->state & TPROXY_BLOCK_SLOT ? 1 : 0].next_end_ns;

	return next && next <= now;
}

static bool is_abandoned(const char *pin_dir)
{
	return !wait_lock_is_held(pin_dir, WAIT_LOCK_BLOCK);
}

/* With the pins locked. Reads again: a command may have changed the list since. */
static int work(const struct pins *pins, const struct types *types, uint64_t now)
{
	struct block_store store = BLOCK_STORE_NULL;
	size_t n = 0;
	int r;

	store.types = types->block;
	r = block_store_open(pins, &store);
	if (r == 0 && block_store_is_held(&store) && is_abandoned(pins->path)) {
		log_warning(
			"the block list in force was not confirmed, and the command that waited was killed: it is taken back");
		r = block_store_restore(&store);
	}
	if (r == 0)
		r = block_store_purge(&store, now, &n);
	if (n > 0)
		log_info("%zu entr%s of the block list %s ended", n, n == 1 ? "y" : "ies",
			 n == 1 ? "has" : "have");
	block_store_close(&store);
	return r;
}

int follow_block(const char *pin_dir)
{
	const uint64_t now = monotonic_kernel_ns();
	_cleanup_close_ int fd = -1;
	struct pins pins = PINS_NULL;
	struct tproxy_block block;
	struct types types;
	const __u32 key = 0;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_BLOCK, /* writable= */ false, &fd);
	if (r == 0)
		r = bpf_map_lookup_elem(fd, &key, &block);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		log_err("cannot read '%s/map_block': %s", pin_dir, strerror(-r));
		return r;
	}
	if (!has_ended(&block, now) && !(block.state & TPROXY_BLOCK_HELD && is_abandoned(pin_dir)))
		return 0;
	r = types_open(&types);
	if (r == 0)
		r = pins_open(pin_dir, /* create= */ false, &pins);
	if (r == 0)
		r = work(&pins, &types, now);
	pins_close(&pins);
	types_close(&types);
	return r == -ENOENT ? 0 : r;
}
