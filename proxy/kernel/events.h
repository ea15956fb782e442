/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ends of observed connections, as the kernel half reports them in the ring buffer map_events.
 *
 * All network namespaces share one ring with one consumer position, so it can have one reader only.
 * The reader holds flock(2) on the pin of map_observed. The kernel releases the lock when the
 * process ends, so no lock is ever stale. Functions belong to the main thread, and do not log.
 */
#ifndef TPROXY_EVENTS_H
#define TPROXY_EVENTS_H

#include <stdbool.h>
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
 * Returns a descriptor that is readable while there are events. An event wakes a poller only if all
 * events before it have been read.
 */
int events_fd(const struct events *events);

/*
 * Calls fn for each event in the ring, most times at most, until fn returns false. Returns the
 * number, or -errno.
 */
int events_read(struct events *events, unsigned int most,
		bool (*fn)(const struct tproxy_event *event, void *data), void *data);

/*
 * Returns the text of the rule that observed a connection, or NULL if its counter belongs to
 * another rule by now. For use in fn: the text is valid until the next call. events_read() reads
 * the text of a rule once for all events that follow each other.
 */
const struct tproxy_rule_text *events_rule(struct events *events,
					   const struct tproxy_observed *conn);

/*
 * Returns the number of observed connections that were not reported since the last call. The first
 * call counts from events_open() on; if the ring was full then, from the load on. Returns 0 if the
 * counters cannot be read.
 */
uint64_t events_take_lost(struct events *events);

#endif
