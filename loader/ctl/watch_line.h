/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The lines of tproxyctl watch, as text or as JSON, on stdout. */
#ifndef TPROXY_CTL_WATCH_LINE_H
#define TPROXY_CTL_WATCH_LINE_H

#include <stdbool.h>
#include <stdint.h>

struct json_object;
struct tproxy_event;
struct watch_conn;

/* How a connection has ended. */
struct watch_fate {
	const char *reason; /* in the words of the connection log */
	int error;	    /* errno that explains the reason, or 0 */
	bool measured;	    /* the event has bytes, round trip time and retransmits */
};

/* What all lines need. */
struct watch_lines {
	bool json;
	int64_t real_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
};

/* Reads the clocks. Call it before each pass over the ring. */
void watch_lines_set_clock(struct watch_lines *lines);

/* Prints the head of the text. */
void watch_lines_print_head(const struct watch_lines *lines);
/* Print the line of a connection that has begun, or was refused, and of one that has ended. */
void watch_lines_print_start(const struct watch_lines *lines, const struct watch_conn *conn);
void watch_lines_print_end(const struct watch_lines *lines, const struct watch_conn *conn,
			   const struct tproxy_event *event, const struct watch_fate *fate);

/* Returns an object with the version, the time (0: now) and the kind of a line. */
struct json_object *watch_lines_object(const struct watch_lines *lines, uint64_t time_ns,
				       const char *kind);
/* Prints an object in one line, and frees it. */
void watch_lines_print_object(struct json_object *object);

#endif
