/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Moves sessions with bulk data to a thread of their own, and back.
 *
 * The scheduler gives each thread a share of a CPU. A thread that has used up its share waits for
 * milliseconds behind others when an event comes. A worker with bulk transfers has always used
 * up its share, so small messages on the same worker would wait too. Each worker therefore has a
 * partner, a bulk worker: the same event loop without listeners.
 *
 * A session that takes one turn of bulk after the other is handed to the bulk worker. When it
 * exchanges only small messages, it is handed back. One with TLS to its upstream stays where it is.
 * A session belongs to one of the two threads, or lies in the inbox of one of them, under that
 * inbox's lock.
 *
 * A worker ends before its bulk worker, which serves the sessions it was given until they end. All
 * functions run in the thread of the worker that has the session.
 */
#ifndef TPROXY_HANDOFF_H
#define TPROXY_HANDOFF_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "session/env.h"

struct session;
struct tick;

/* One end: a worker's or a bulk worker's. */
struct handoff {
	struct session_env *env;
	struct tick *tick;
	int wake_fd;		   /* eventfd of the thread, not owned: written after a handover */
	struct handoff *partner;   /* NULL: none, nothing is handed over */
	bool is_bulk;		   /* the bulk worker's end */
	bool stopped;		   /* the worker drains: it hands over nothing more */
	_Atomic bool ended;	   /* the thread has ended: it hands over nothing more */
	pthread_mutex_t lock;	   /* of the two below */
	struct session_list inbox; /* handed over by the partner */
	bool closed;		   /* takes no more sessions */
};

/* Initialises an end without a partner. It must stay where it is. */
void handoff_init(struct handoff *h, struct session_env *env, struct tick *tick, int wake_fd);
void handoff_finish(struct handoff *h);
/* Makes two ends partners, before either thread starts. */
void handoff_pair(struct handoff *worker, struct handoff *bulk);

/*
 * Note an event of s: one of its halves is ready, with bulk data or with a small message. They
 * return true if s was handed to the partner; the caller must not touch s any more. A callback
 * calls them before session.c moves any data of s.
 */
bool handoff_bulk(struct handoff *h, struct session *s);
bool handoff_small(struct handoff *h, struct session *s);
/* Notes that an event of s was bulk, which ends a row of small events. */
void handoff_note_bulk(struct handoff *h, struct session *s);

/* Attaches the sessions in the inbox. Called when the thread has been woken. */
void handoff_receive(struct handoff *h);

/*
 * Closes the inbox of a thread without sessions. Returns true if it is closed: no session will come
 * any more. Returns false while a session is in the inbox, or while the partner of a bulk worker
 * may still hand one over; the thread is woken when that changes.
 */
bool handoff_close(struct handoff *h);
/* The thread has ended. A bulk worker that waits for that is woken. */
void handoff_end(struct handoff *h);

#endif
