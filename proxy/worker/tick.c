// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See tick.h. One timer looks at the heads of the three queues of deadlines, probes a part
 * of the sessions that are not polled, and starts keepalive on a part of the new ones. It runs when
 * the next timeout may expire, at least every most_ms, and not while there are no sessions.
 */
#include "tick.h"

#include <errno.h>
#include <event2/event.h>
#include <stddef.h>

#include "monotonic.h"
#include "session/session.h"
#include "util.h"

/* Interval of the passes over the probe list, see session_probe(). */
#define PROBE_MS 500
/* Limit of sessions probed, and of new ones that get keepalive, in one tick: half a millisecond.
 * The rest follow in the next tick. */
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
 * pass over the list only if the last pass is complete and began most_ms ago: ticks for
 * timeouts may come more often.
 */
static void probe_unpolled(struct tick *tick, uint64_t now_ms)
{
	struct session_env *env = tick->env;
	struct session *s;
	uint32_t n;

	if (!tick->probe_left && now_ms + TICK_LEAST_MS >= tick->probed_ms + tick->most_ms) {
		tick->probe_left = env->n_unpolled;
		tick->probed_ms = now_ms;
	}
	for (n = 0; n < tick->walk_most && tick->probe_left > 0; n++) {
		s = TAILQ_FIRST(&env->unpolled);
		if (!s) {
			tick->probe_left = 0;
			return;
		}
		tick->probe_left--;
		TAILQ_REMOVE(&env->unpolled, s, unpolled_entry);
		TAILQ_INSERT_TAIL(&env->unpolled, s, unpolled_entry);
		session_probe(s);
	}
}

/* Starts keepalive on new sessions, the oldest first. */
static void start_keepalive(struct tick *tick)
{
	struct session_env *env = tick->env;
	uint32_t n;

	for (n = 0; n < tick->walk_most && env->oldest_new; n++)
		session_start_keepalive(env->oldest_new);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Schedules the next tick for the next timeout, or in most_ms; none if there are no sessions. */
static void schedule_tick(struct tick *tick, uint64_t most_ms)
{
	struct session_env *env = tick->env;
	uint64_t now_ms = monotonic_coarse_ms(), next_ms;
	struct timeval delay;

	if (TAILQ_EMPTY(&env->sessions)) {
		tick->ticking = false;
		return;
	}
	next_ms = least(deadline_next_ms(&env->connecting, now_ms),
			deadline_next_ms(&env->idle, now_ms));
	next_ms = least(next_ms, deadline_next_ms(&env->half_closed, now_ms));
	next_ms = least(next_ms, most_ms);
	delay = deadline_timeval(next_ms < TICK_LEAST_MS ? TICK_LEAST_MS : next_ms);
	tick->ticking = event_add(tick->timer, &delay) == 0;
}

void tick_need(struct tick *tick)
{
	if (!tick->ticking)
		schedule_tick(tick, tick->most_ms);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct tick *tick = arg;
	struct session_env *env = tick->env;
	uint64_t now_ms = monotonic_coarse_ms();

	expire(&env->connecting, now_ms, CLOSE_CONNECT_TIMEOUT);
	expire(&env->idle, now_ms, CLOSE_IDLE_TIMEOUT);
	expire(&env->half_closed, now_ms, CLOSE_HALF_CLOSED_TIMEOUT);
	probe_unpolled(tick, now_ms);
	start_keepalive(tick);
	schedule_tick(tick, tick->probe_left || env->oldest_new ? TICK_LEAST_MS : tick->most_ms);
}

void tick_configure(struct tick *tick)
{
	const struct session_env *env = tick->env;

	tick->most_ms = least(least(env->connecting.timeout_ms, env->idle.timeout_ms),
			      least(env->half_closed.timeout_ms, PROBE_MS));
}

int tick_init(struct tick *tick, struct session_env *env)
{
	*tick = (struct tick){ .env = env, .walk_most = WALK_MAX };
	tick->timer = evtimer_new(env->base, on_tick, tick);
	return tick->timer ? 0 : -ENOMEM;
}

void tick_finish(struct tick *tick)
{
	if (tick->timer)
		event_free(tick->timer);
	tick->timer = NULL;
}
