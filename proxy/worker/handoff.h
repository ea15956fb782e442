/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Moves sessions with bulk data to a thread of their own, and back.
 *
 * The scheduler gives each thread a share of a CPU. A thread that has used up its share waits for
 * milliseconds behind others when an event comes. A worker with bulk transfers always has, so small
 * messages on the same worker would wait too. Each worker therefore has a partner, a bulk worker:
 * the same event loop without listeners.
 *
 * A session that takes one turn of bulk after the other is handed to the bulk worker. When it
 * exchanges only small messages, it is handed back. A session belongs to one of the two threads, or
 * lies in the inbox of one of them (worker::inbox, under inbox_lock).
 *
 * A worker ends before its bulk worker, which serves the sessions it was given until they end. All
 * functions run in the thread of the worker that has the session.
 */
#ifndef TPROXY_HANDOFF_H
#define TPROXY_HANDOFF_H

#include <stdbool.h>

struct session;
struct worker;

/*
 * Note an event of s: one of its halves is ready, with bulk data or with a small message. They
 * return true if s was handed to the partner; the caller must not touch s any more. A callback
 * calls them before session.c moves any data of s.
 */
bool handoff_bulk(struct session *s);
bool handoff_small(struct session *s);
/* An event of s was bulk: small events count in a row only. */
void handoff_note_bulk(struct session *s);

/* Attaches the sessions in the worker's inbox. Called when the worker has been woken. */
void handoff_receive(struct worker *worker);

/*
 * Closes the inbox of a worker without sessions. Returns true if it is closed: no session will come
 * any more. Returns false while a session is in the inbox, or while the partner of a bulk worker
 * may still hand one over; the worker is woken when that changes.
 */
bool handoff_close(struct worker *worker);

#endif
