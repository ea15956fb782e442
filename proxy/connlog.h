/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The line for each connection, when it has ended: for people to stderr, or for programs as one
 * JSON object a line to stdout.
 */
#ifndef TPROXY_CONNLOG_H
#define TPROXY_CONNLOG_H

#include "stats.h"

struct session;

/* Of the members' meaning; members are added without a new one. */
#define CONNLOG_JSON_VERSION 1

enum connlog_format {
	CONNLOG_NONE,
	CONNLOG_TEXT,
	CONNLOG_JSON,
};

/* For all threads. */
void connlog_init(enum connlog_format format);

/* At the start of a session: asks who the client is, if a line will be wanted. */
void connlog_start(struct session *s);
/* At its end, while its descriptors are open still. Frees what connlog_start() took. */
void connlog_end(struct session *s, enum close_reason reason);

/*
 * Says how many lines to stdout were lost since it was said last. Those of a file are lost later,
 * by the thread that writes it: to be called now and then too, by any thread.
 */
void connlog_tell_lost(void);

#endif
