// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See bulk.h. */
#include "bulk.h"

#include <errno.h>
#include <event2/event.h>

#include "handoff.h"
#include "session/session.h"

/* One in BULK_PART of the queued bulk transfers has its turn in one pass of the event loop. */
#define BULK_PART 8
/*
 * Bytes that one turn of bulk moves. The turn takes some 30 µs, which small messages may have to
 * wait for. The only session of a worker has longer turns: short ones cost a few per cent.
 */
#define TURN_BYTES	 (128 * 1024)
#define TURN_BYTES_ALONE (512 * 1024)

bool bulk_queue(struct bulk *bulk, struct half *h)
{
	struct session_env *env = bulk->env;
	const struct session *first = TAILQ_FIRST(&env->sessions);
	bool alone = first && !TAILQ_NEXT(first, entry);
	const struct timeval now = {};

	if (h->queued)
		return true;
	env->pump_env.turn_bytes = alone ? TURN_BYTES_ALONE : TURN_BYTES;
	if (alone)
		return false;
	if (!env->bulk.n && event_add(bulk->turn, &now) < 0)
		return false;
	half_queue_push(&env->bulk, h);
	return true;
}

static void run_first(struct bulk *bulk)
{
	struct half *h = TAILQ_FIRST(&bulk->env->bulk.halves);

	half_queue_remove(&bulk->env->bulk, h);
	if (!handoff_bulk(bulk->handoff, half_session(h)))
		session_run(h);
}

/*
 * Runs queued bulk transfers. With few in the queue it runs one, so that small messages wait for
 * one turn at most. With many it runs more, because each pass of the loop costs time for each of
 * them.
 */
static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct bulk *bulk = arg;
	struct session_env *env = bulk->env;
	const struct timeval now = {};
	uint32_t n = 1 + env->bulk.n / BULK_PART;

	spin_note_event(&env->spin);
	while (n-- > 0 && env->bulk.n)
		run_first(bulk);
	/* Without memory for the event, the others run now. */
	while (env->bulk.n && event_add(bulk->turn, &now) < 0)
		run_first(bulk);
}

int bulk_init(struct bulk *bulk, struct session_env *env, struct handoff *handoff)
{
	*bulk = (struct bulk){ .env = env, .handoff = handoff };
	env->pump_env.turn_bytes = TURN_BYTES;
	bulk->turn = evtimer_new(env->base, on_turn, bulk);
	return bulk->turn ? 0 : -ENOMEM;
}

void bulk_finish(struct bulk *bulk)
{
	if (bulk->turn)
		event_free(bulk->turn);
	bulk->turn = NULL;
}
