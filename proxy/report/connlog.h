/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connection log: one line for each connection when it has ended. The line is text for people,
 * on stderr, or one JSON object for programs, on stdout.
 */
#ifndef TPROXY_CONNLOG_H
#define TPROXY_CONNLOG_H

#include "stats.h"

struct session;

/* Version of the members' meaning. New members do not change it. */
#define CONNLOG_JSON_VERSION 1

enum connlog_format {
	CONNLOG_NONE,
	CONNLOG_TEXT,
	CONNLOG_JSON,
};

/* Sets the format for all threads. May be called again, by any thread. */
void connlog_init(enum connlog_format format);

/* Start of a session: reads the record of the client's process, if connections are logged. */
void connlog_start(struct session *s);
/*
 * End of a session: prints its line. Called while its descriptors are still open. Frees what
 * connlog_start() allocated.
 */
void connlog_end(struct session *s, enum close_reason reason);

/*
 * Logs how many lines to stdout were lost since the last call. If stdout is a file, its writer
 * thread loses lines later, so this is also called from time to time. Any thread.
 */
void connlog_tell_lost(void);

#endif
