/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A session that keeps moving bulk data moves to another thread.
 *
 * The kernel's scheduler gives a thread its share of a CPU, and one that has used it up waits for
 * milliseconds behind others when an event comes. A worker with bulk transfers always has, so small
 * talk on the same worker would wait with it. Hence each worker has a partner, a bulk worker: the
 * same loop without listeners. A session that takes one turn of bulk after the other is handed to
 * it; when it exchanges small messages only, it is handed back. At most one of the two threads has
 * a session, or the inbox of one does (worker::inbox, under its lock).
 *
 * The worker ends before its partner, which serves what it was given until that ends.
 */
#ifndef TPROXY_HANDOFF_H
#define TPROXY_HANDOFF_H

#include <stdbool.h>

struct session;
struct worker;

/*
 * A half of s is ready and it is bulk, or it is not. True: s belongs to the partner now, and is not
 * to be touched any more. Not to be called while a function of session.c runs for s.
 */
bool handoff_bulk(struct session *s);
bool handoff_small(struct session *s);

/* The worker's thread has been woken: takes the sessions in its inbox. */
void handoff_receive(struct worker *worker);

/*
 * The worker has no sessions. False if one is on its way to it, or may be; the worker is woken
 * then. True: none comes any more.
 */
bool handoff_close(struct worker *worker);

#endif
