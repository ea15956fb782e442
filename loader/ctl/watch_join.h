/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Joins the events of watched connections by the cookie of their sockets: one call when a
 * connection has begun, with its source if it has one, and one call when it has ended.
 */
#ifndef TPROXY_CTL_WATCH_JOIN_H
#define TPROXY_CTL_WATCH_JOIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conn_row.h"
#include "tproxy_abi.h"

struct watch_join;

struct watch_conn {
	struct conn_row row; /* an accepted connection: src is the peer, dst this side; pid 0 */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	uint32_t rule_counter, rule_line;
	int error;	/* errno of a refused connection */
	uint8_t reason; /* enum tproxy_stat, or TPROXY_WATCH_BY_OTHER */
	bool inbound;
	bool earlier; /* it had begun before */
	bool unsure;  /* earlier, and may have ended before the rings were opened */
	bool sent;    /* its SYN was sent: row.src is valid */
	bool moved;   /* another program has replaced the destination by sent_to */
	bool shown;   /* started() was called */
	struct tproxy_endpoint sent_to;
	bool wanted; /* the caller's: it passes the filter */
};

struct watch_join_calls {
	/* A connection has begun, or was refused. */
	void (*started)(struct watch_conn *conn, void *data);
	/* It has ended. Not called for one that was refused. @event->conn has src and dst only. */
	void (*ended)(struct watch_conn *conn, const struct tproxy_event *event, void *data);
	void *data;
};

/* Returns NULL without memory. */
struct watch_join *watch_join_new(const struct watch_join_calls *calls);
void watch_join_free(struct watch_join *join);

/* Takes an event of watch_rings_read(). */
void watch_join_event(struct watch_join *join, const struct tproxy_watch_head *event, size_t size);
/*
 * Takes a connection that began before the watch; started() is not called for it. Call it for all
 * connections before the rings are opened, with @watched_ns 0, and again afterwards, with a time
 * (CLOCK_MONOTONIC) after the connection was read. A connection that ended in between may have no
 * event: watch_join_drop_gone() drops it after the first pass. One that began in between has all
 * its events, from which it is reported.
 */
void watch_join_add(struct watch_join *join, const struct conn_row *row, uint64_t started_ns,
		    uint64_t watched_ns);
void watch_join_drop_gone(struct watch_join *join);
/*
 * Call it after each pass over the ring. A connection that has sent no SYN since the pass before is
 * reported without its source.
 */
void watch_join_settle(struct watch_join *join);

/* Returns the connection of this id that has not ended, or NULL. */
struct watch_conn *watch_join_find(const struct watch_join *join, uint64_t id);
/* Returns the number of connections that have not ended and for which @counts returns true. */
typedef bool (*watch_join_counts_fn)(const struct watch_conn *conn, void *data);
size_t watch_join_count(const struct watch_join *join, watch_join_counts_fn counts, void *data);
/* Returns the number of connections that were dropped because there is no memory for them. */
uint64_t watch_join_forgotten(const struct watch_join *join);

#endif
