/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The observed connections of a command, from the maps of its instance. */
#ifndef TPROXY_CTL_RUN_EVENTS_H
#define TPROXY_CTL_RUN_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

struct instance;
struct ring_buffer;
struct tproxy_event;
struct tproxy_observed;

struct run_events {
	const struct instance *instance;
	struct ring_buffer *ring;
	void (*fn)(const struct tproxy_event *event, void *data);
	void *data;
	bool rests; /* the last read found events: read again after a pause */
};

/*
 * Begins to read. @fn gets each connection that has ended. Returns 0 or -errno, logged. The caller
 * calls run_events_close(); a zeroed struct is closed.
 */
int run_events_open(const struct instance *instance,
		    void (*fn)(const struct tproxy_event *event, void *data), void *data,
		    struct run_events *ret_events);
void run_events_close(struct run_events *events);

/*
 * For poll(2): call run_events_read() when it returns, for whatever reason. The descriptor is
 * readable while there are events. After a read that found some it is -1 for a pause, so that a
 * busy command does not pay for a wakeup with each connection. No event stays unread: the first
 * read that finds none is followed by a wait for the descriptor, which is readable if an event has
 * come since.
 */
int run_events_fd(const struct run_events *events);
int run_events_timeout(const struct run_events *events);
/* Does nothing for a zeroed struct. */
void run_events_read(struct run_events *events);

/*
 * Returns the number of observed connections that have not ended, and passes them to @fn, if @fn is
 * not NULL.
 */
uint64_t run_events_open_connections(const struct run_events *events,
				     void (*fn)(const struct tproxy_observed *conn, void *data),
				     void *data);
/* Returns the number of observed connections that were not reported. */
uint64_t run_events_lost(const struct run_events *events);

/* Logs a connection that has ended, in one line. A callback of run_events_open(). */
void run_events_log(const struct tproxy_event *event, void *data);

#endif
