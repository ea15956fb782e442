// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See tick.h. One timer looks at the heads of the worker's three queues of deadlines, probes a part
 * of the sessions that are not polled, and settles a part of the new ones. It runs when the next
 * timeout may expire, at least every tick_most_ms, and not while there are no sessions.
 */
#include "tick.h"

#include <errno.h>
#include <event2/event.h>
#include <stddef.h>

#include "monotonic.h"
#include "session/session.h"
#include "util.h"
#include "worker.h"

/* Interval of the passes over the probe list, see session_probe(). */
#define PROBE_MS 500
/* Limit of sessions probed, and of sessions settled, in one tick: half a millisecond. The rest
 * follow in the next tick. */
#define WALK_MAX 256
/* Limit of sessions that expire in one tick, for each queue. */
#define EXPIRE_MAX 256
/* Shortest interval of the tick, and so the precision of a timeout. */
#define TICK_LEAST_MS 10

static struct session *session_of(struct deadline *deadline)
{
	return (struct session *)((char *)deadline - offsetof(struct session, deadline));
}

static void expire(struct deadline_queue *queue, uint64_t now_ms, enum close_reason reason)
{
	struct deadline *deadline;
	int i;

	for (i = 0; i < EXPIRE_MAX && (deadline = deadline_expired(queue, now_ms)); i++)
		session_expire(session_of(deadline), reason);
}

/*
 * Probes the sessions at the head of the probe list and moves them to its tail. A tick begins a new
 * pass over the list only if the last pass is complete and began tick_most_ms ago: ticks for
 * timeouts may come more often.
 */
static void probe_deaf(struct worker *worker, uint64_t now_ms)
{
	struct session *s;
	uint32_t n;

	if (!worker->probe_left &&
	    now_ms + TICK_LEAST_MS >= worker->probed_ms + worker->tick_most_ms) {
		worker->probe_left = worker->n_deaf;
		worker->probed_ms = now_ms;
	}
	for (n = 0; n < worker->walk_most && worker->probe_left > 0; n++) {
		s = TAILQ_FIRST(&worker->deaf);
		if (!s) {
			worker->probe_left = 0;
			return;
		}
		worker->probe_left--;
		TAILQ_REMOVE(&worker->deaf, s, deaf_entry);
		TAILQ_INSERT_TAIL(&worker->deaf, s, deaf_entry);
		session_probe(s);
	}
}

/* Settles new sessions, the oldest first. */
static void settle(struct worker *worker)
{
	uint32_t n;

	for (n = 0; n < worker->walk_most && worker->unsettled; n++)
		session_settle(worker->unsettled);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Schedules the next tick for the next timeout, or in most_ms; none if there are no sessions. */
static void schedule_tick(struct worker *worker, uint64_t most_ms)
{
	uint64_t now_ms = monotonic_coarse_ms(), next_ms;
	struct timeval delay;

	if (TAILQ_EMPTY(&worker->sessions)) {
		worker->ticking = false;
		return;
	}
	next_ms = least(deadline_next_ms(&worker->connecting, now_ms),
			deadline_next_ms(&worker->idle, now_ms));
	next_ms = least(next_ms, deadline_next_ms(&worker->half_closed, now_ms));
	next_ms = least(next_ms, most_ms);
	delay = deadline_timeval(next_ms < TICK_LEAST_MS ? TICK_LEAST_MS : next_ms);
	worker->ticking = event_add(worker->tick, &delay) == 0;
}

void tick_need(struct worker *worker)
{
	if (!worker->ticking)
		schedule_tick(worker, worker->tick_most_ms);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	uint64_t now_ms = monotonic_coarse_ms();

	expire(&worker->connecting, now_ms, CLOSE_CONNECT_TIMEOUT);
	expire(&worker->idle, now_ms, CLOSE_IDLE_TIMEOUT);
	expire(&worker->half_closed, now_ms, CLOSE_HALF_CLOSED_TIMEOUT);
	probe_deaf(worker, now_ms);
	settle(worker);
	schedule_tick(worker, worker->probe_left || worker->unsettled ? TICK_LEAST_MS
								      : worker->tick_most_ms);
}

void tick_configure(struct worker *worker)
{
	worker->tick_most_ms = least(least(worker->connecting.timeout_ms, worker->idle.timeout_ms),
				     least(worker->half_closed.timeout_ms, PROBE_MS));
}

int tick_init(struct worker *worker)
{
	worker->walk_most = WALK_MAX;
	worker->tick = evtimer_new(worker->base, on_tick, worker);
	return worker->tick ? 0 : -ENOMEM;
}
