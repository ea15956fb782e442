// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See handoff.h. session::handoff is the counter of both directions. On a worker it counts turns of
 * bulk, less events with small messages; at BULK_TURNS the session goes to the bulk worker. There
 * it counts events with small messages in a row; at SMALL_EVENTS the session goes back. Each
 * handover sets the counter to 0. A draining worker hands over nothing.
 *
 * The session is detached under the inbox lock of the receiver: from then on only the receiver has
 * it. Once an inbox is closed, sessions stay where they are.
 */
#include "handoff.h"

#include <pthread.h>

#include "session/session.h"
#include "worker.h"

/* Turns of bulk, less small events, after which a session goes to the bulk worker: about 1 MiB. */
#define BULK_TURNS 8
/* Small events in a row after which a session goes back. */
#define SMALL_EVENTS 64

/* Returns false if the inbox of to is closed; s is unchanged then. */
static bool hand_over(struct session *s, struct worker *to)
{
	/* Not under the lock, as it makes system calls. */
	if (!s->settled)
		session_settle(s);
	pthread_mutex_lock(&to->inbox_lock);
	if (to->inbox.closed) {
		pthread_mutex_unlock(&to->inbox_lock);
		return false;
	}
	session_detach(s);
	TAILQ_INSERT_TAIL(&to->inbox.sessions, s, entry);
	pthread_mutex_unlock(&to->inbox_lock);
	worker_wake(to);
	return true;
}

bool handoff_bulk(struct session *s)
{
	struct worker *worker = s->worker;

	if (!worker->partner || worker->draining || worker->is_bulk)
		return false;
	return ++s->handoff >= BULK_TURNS && hand_over(s, worker->partner);
}

void handoff_note_bulk(struct session *s)
{
	if (s->worker->is_bulk)
		s->handoff = 0;
}

bool handoff_small(struct session *s)
{
	struct worker *worker = s->worker;

	if (!worker->partner || worker->draining)
		return false;
	if (worker->is_bulk)
		return ++s->handoff >= SMALL_EVENTS && hand_over(s, worker->partner);
	if (s->handoff > 0)
		s->handoff--;
	return false;
}

static struct session *take_first(struct worker *worker)
{
	struct session *s;

	pthread_mutex_lock(&worker->inbox_lock);
	s = TAILQ_FIRST(&worker->inbox.sessions);
	if (s)
		TAILQ_REMOVE(&worker->inbox.sessions, s, entry);
	pthread_mutex_unlock(&worker->inbox_lock);
	return s;
}

/*
 * One at a time: attaching may destroy a session, and handoff_close() must see the others in the
 * inbox then.
 */
void handoff_receive(struct worker *worker)
{
	struct session *s;

	while ((s = take_first(worker)))
		session_attach(s, worker);
}

bool handoff_close(struct worker *worker)
{
	bool closed;

	if (!worker->partner)
		return true;
	pthread_mutex_lock(&worker->inbox_lock);
	closed = TAILQ_EMPTY(&worker->inbox.sessions) &&
		 (!worker->is_bulk || atomic_load(&worker->partner->ended));
	worker->inbox.closed = closed;
	pthread_mutex_unlock(&worker->inbox_lock);
	return closed;
}
