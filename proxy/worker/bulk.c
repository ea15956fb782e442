// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See bulk.h. */
#include "bulk.h"

#include <errno.h>
#include <event2/event.h>

#include "session/session.h"
#include "worker.h"

/* One in BULK_PART of the queued bulk transfers has its turn in one pass of the event loop. */
#define BULK_PART 8
/*
 * Bytes that one turn of bulk moves. The turn takes some 30 µs, which small messages may have to
 * wait for. The only session of a worker has longer turns: short ones cost a few per cent.
 */
#define TURN_BYTES	 (128 * 1024)
#define TURN_BYTES_ALONE (512 * 1024)

bool bulk_queue(struct worker *worker, struct half *h)
{
	const struct session *first = TAILQ_FIRST(&worker->sessions);
	bool alone = first && !TAILQ_NEXT(first, entry);
	const struct timeval now = {};

	if (h->queued)
		return true;
	worker->tools.turn_bytes = alone ? TURN_BYTES_ALONE : TURN_BYTES;
	if (alone)
		return false;
	if (!worker->n_bulk && event_add(worker->bulk_turn, &now) < 0)
		return false;
	TAILQ_INSERT_TAIL(&worker->bulk, h, bulk_entry);
	worker->n_bulk++;
	h->queued = true;
	return true;
}

void bulk_unqueue(struct worker *worker, struct half *h)
{
	if (!h->queued)
		return;
	TAILQ_REMOVE(&worker->bulk, h, bulk_entry);
	worker->n_bulk--;
	h->queued = false;
}

/*
 * Runs queued bulk transfers. With few in the queue it runs one, so that small messages wait for
 * one turn at most. With many it runs more, because each pass of the loop costs time for each of
 * them.
 */
static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;
	const struct timeval now = {};
	uint32_t n = 1 + worker->n_bulk / BULK_PART;
	struct half *h;

	busypoll_woke(&worker->busypoll);
	while (n-- > 0 && (h = TAILQ_FIRST(&worker->bulk))) {
		bulk_unqueue(worker, h);
		session_run_bulk(h);
	}
	/* Without memory for the event, the others run now. */
	while (worker->n_bulk && event_add(worker->bulk_turn, &now) < 0) {
		h = TAILQ_FIRST(&worker->bulk);
		bulk_unqueue(worker, h);
		session_run_bulk(h);
	}
}

int bulk_init(struct worker *worker)
{
	TAILQ_INIT(&worker->bulk);
	worker->tools.turn_bytes = TURN_BYTES;
	worker->bulk_turn = evtimer_new(worker->base, on_turn, worker);
	return worker->bulk_turn ? 0 : -ENOMEM;
}
