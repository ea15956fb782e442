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

#include <sys/eventfd.h>

#include "session/session.h"
#include "tick.h"

/* Turns of bulk, less small events, after which a session goes to the bulk worker: about 1 MiB. */
#define BULK_TURNS 8
/* Small events in a row after which a session goes back. */
#define SMALL_EVENTS 64

void handoff_init(struct handoff *h, struct session_env *env, struct tick *tick, int wake_fd)
{
	*h = (struct handoff){ .env = env, .tick = tick, .wake_fd = wake_fd };
	pthread_mutex_init(&h->lock, NULL);
	TAILQ_INIT(&h->inbox);
}

void handoff_finish(struct handoff *h)
{
	pthread_mutex_destroy(&h->lock);
}

void handoff_pair(struct handoff *worker, struct handoff *bulk)
{
	worker->partner = bulk;
	bulk->partner = worker;
	bulk->is_bulk = true;
}

/* Returns false if s has a TLS bridge, or the inbox of to is closed; s is unchanged then. */
static bool hand_over(struct session *s, struct handoff *to)
{
	/* A bridge belongs to the worker's event base. */
	if (detour_of(s)->bridge)
		return false;
	/* Not under the lock, as it makes system calls. */
	if (!s->has_keepalive)
		session_start_keepalive(s);
	pthread_mutex_lock(&to->lock);
	if (to->closed) {
		pthread_mutex_unlock(&to->lock);
		return false;
	}
	session_detach(s);
	TAILQ_INSERT_TAIL(&to->inbox, s, entry);
	pthread_mutex_unlock(&to->lock);
	eventfd_write(to->wake_fd, 1);
	return true;
}

bool handoff_bulk(struct handoff *h, struct session *s)
{
	if (!h->partner || h->stopped || h->is_bulk)
		return false;
	return ++s->handoff >= BULK_TURNS && hand_over(s, h->partner);
}

void handoff_note_bulk(struct handoff *h, struct session *s)
{
	if (h->is_bulk)
		s->handoff = 0;
}

bool handoff_small(struct handoff *h, struct session *s)
{
	if (!h->partner || h->stopped)
		return false;
	if (h->is_bulk)
		return ++s->handoff >= SMALL_EVENTS && hand_over(s, h->partner);
	if (s->handoff > 0)
		s->handoff--;
	return false;
}

static struct session *take_first(struct handoff *h)
{
	struct session *s;

	pthread_mutex_lock(&h->lock);
	s = TAILQ_FIRST(&h->inbox);
	if (s)
		TAILQ_REMOVE(&h->inbox, s, entry);
	pthread_mutex_unlock(&h->lock);
	return s;
}

/*
 * One at a time: attaching may destroy a session, and handoff_close() must see the others in the
 * inbox then.
 */
void handoff_receive(struct handoff *h)
{
	struct session *s;

	while ((s = take_first(h))) {
		session_attach(s, h->env);
		tick_need(h->tick);
	}
}

bool handoff_close(struct handoff *h)
{
	bool closed;

	if (!h->partner)
		return true;
	pthread_mutex_lock(&h->lock);
	closed = TAILQ_EMPTY(&h->inbox) && (!h->is_bulk || atomic_load(&h->partner->ended));
	h->closed = closed;
	pthread_mutex_unlock(&h->lock);
	return closed;
}

void handoff_end(struct handoff *h)
{
	h->ended = true;
	if (h->partner && !h->is_bulk)
		eventfd_write(h->partner->wake_fd, 1);
}
