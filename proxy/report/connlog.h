/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connection log: one line for each connection when it has ended. The line is text for people,
 * on stderr, or one JSON object for programs, on stdout.
 */
#ifndef TPROXY_CONNLOG_H
#define TPROXY_CONNLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "parse.h"
#include "stats.h"

struct line;
struct tproxy_conn;

/* Version of the members' meaning. New members do not change it. */
#define CONNLOG_JSON_VERSION 1

enum connlog_format {
	CONNLOG_NONE,
	CONNLOG_TEXT,
	CONNLOG_JSON,
};

/* Sets the format for all threads. May be called again, by any thread. */
void connlog_init(enum connlog_format format);
enum connlog_format connlog_wanted(void);

/* A connection that has ended. */
struct conn_report {
	const union sockaddr_any *client;
	const union sockaddr_any *dst; /* original destination; AF_UNSPEC: unknown */
	int upstream_fd;	       /* the server's socket, still open; -1: never connected */
	uint64_t started_ms, ended_ms; /* of monotonic_coarse_ms() */
	uint64_t bytes_up, bytes_down;
	enum close_reason reason;
	int error;			       /* errno of a failed connect(), or 0 */
	const struct tproxy_conn *client_info; /* the client's process; NULL: unknown */
	const char *upstream; /* name of the upstream that was used, or failed last; NULL: direct */
	const char *why;      /* the upstream's text for a failed dial, or NULL */
	const char *name;     /* of the destination, as the client's bytes tell it; NULL: unknown */
	const char *protocol; /* of these bytes; NULL: unknown */
	bool ech;	      /* the true name may be another one */
};

/*
 * Start of a connection: reads the kernel half's record of the client's process. Returns NULL if
 * connections are not logged, or if there is no record. Otherwise the caller frees it with free().
 */
struct tproxy_conn *connlog_read_client(int client_fd);
/* The same for a record that the caller has already. */
struct tproxy_conn *connlog_copy_client(const struct tproxy_conn *conn);
/* End of a connection: prints its line, if connections are logged. */
void connlog_print(const struct conn_report *report);

/* Prints a complete line to stdout. */
void connlog_print_json(const struct line *line);
/*
 * True if the log takes one more line. If it does not, a caller that can wait should wait, because
 * the line would be dropped.
 */
bool connlog_has_room(void);

/*
 * Logs how many lines to stdout were lost since the last call. If stdout is a file, its writer
 * thread loses lines later, so this is also called from time to time. Any thread.
 */
void connlog_report_lost(void);

#endif
