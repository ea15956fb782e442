// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See handoff.h. */
#include "handoff.h"

#include <pthread.h>

#include "session.h"
#include "worker.h"

/* Turns of bulk, less events that were none, after which a session goes: about 1 MiB. */
#define BULK_TURNS 8
/* Events that were no bulk, in a row, after which it comes back. */
#define SMALL_EVENTS 64

/* False if to takes no sessions any more. */
static bool hand_over(struct session *s, struct worker *to)
{
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

	if (!worker->partner || worker->draining)
		return false;
	if (worker->is_bulk) {
		s->handoff = 0;
		return false;
	}
	return ++s->handoff >= BULK_TURNS && hand_over(s, worker->partner);
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

void handoff_receive(struct worker *worker)
{
	struct session_list sessions = TAILQ_HEAD_INITIALIZER(sessions);
	struct session *s;

	pthread_mutex_lock(&worker->inbox_lock);
	TAILQ_CONCAT(&sessions, &worker->inbox.sessions, entry);
	pthread_mutex_unlock(&worker->inbox_lock);
	while ((s = TAILQ_FIRST(&sessions))) {
		TAILQ_REMOVE(&sessions, s, entry);
		session_attach(s, worker);
	}
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
