/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A watcher: a slot of map_interest and a ring buffer, in which the kernel half reports connections
 * while the watcher lives. Takes root. Functions do not log.
 */
#ifndef TPROXY_STATE_WATCH_RINGS_H
#define TPROXY_STATE_WATCH_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct watch_rings;

/*
 * Takes a slot and begins to watch. @size is that of the ring, a power of 2 and a multiple of the
 * page size. @inbound: accepted connections are reported too. Returns 0, -EBUSY if all
 * TPROXY_WATCHERS_MAX slots are taken, or another -errno. The caller calls watch_rings_close().
 */
int watch_rings_open(const char *pin_dir, uint32_t size, bool inbound,
		     struct watch_rings **ret_rings);
/* Gives the slot back. NULL is accepted. */
void watch_rings_close(struct watch_rings *rings);

/*
 * Calls @fn for each event. @size tells its kind apart, see enum tproxy_watch_kind: an event of
 * another size is of no kind. Keeps the slot alive, so call it at least twice a second. Returns 0
 * or -errno.
 */
int watch_rings_read(struct watch_rings *rings,
		     void (*fn)(const struct tproxy_watch_head *event, size_t size, void *data),
		     void *data);

/* Returns the number of events that did not fit into the ring since the last call. */
uint64_t watch_rings_take_lost(struct watch_rings *rings);
/*
 * Returns the number of milliseconds since the last call in which the kernel half reported and
 * counted nothing, because this process was stopped.
 */
uint64_t watch_rings_take_gap_ms(struct watch_rings *rings);

/* Returns true while the pins that were opened are still there. */
bool watch_rings_are_pinned(const struct watch_rings *rings);

#endif
