/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ends of observed connections, as the kernel half reports them in the ring buffer map_events.
 *
 * The ring is one for all network namespaces, and its position of reading is shared: it can have
 * one reader only. The reader holds flock(2) on the pin of map_observing. The kernel releases it
 * when the process ends, so no lock is ever stale. Functions belong to the main thread, and do not
 * log.
 */
#ifndef TPROXY_EVENTS_H
#define TPROXY_EVENTS_H

#include <stdint.h>

#include "tproxy_abi.h"

struct events;

/*
 * Makes this process the reader. *ret_events is set on success, for events_close(). Returns 0,
 * -EBUSY if another process is the reader, or another -errno.
 */
int events_open(const char *pin_dir, struct events **ret_events);
/* Accepts NULL. */
void events_close(struct events *events);

/*
 * Returns a descriptor that is readable while there are events. A poller on it is woken only by an
 * event that finds the ring read to its end.
 */
int events_fd(const struct events *events);

/* Calls fn for each event that is there, most times at most. Returns the number, or -errno. */
int events_read(struct events *events, unsigned int most,
		void (*fn)(const struct tproxy_event *event, void *data), void *data);

/* Reads the text of a rule. Returns -ENOENT if no rule has that counter. */
int events_rule(const struct events *events, uint32_t counter, struct tproxy_rule_text *ret_text);

/*
 * Returns the number of observed connections that were not reported since the last call; the first
 * call counts from the load on. 0 if it cannot be read.
 */
uint64_t events_take_lost(struct events *events);

#endif
