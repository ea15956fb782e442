// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See deadline.h. */
#include "deadline.h"

#include <stddef.h>

#include "monotonic.h"

/* A part of the timeout shorter than this is not used: the session expires after the whole. */
#define PART_LEAST_MS 10

void deadline_queue_init(struct deadline_queue *queue)
{
	TAILQ_INIT(&queue->entries);
	queue->timeout_ms = 0;
	queue->parts = 1;
}

static uint64_t wait_ms(const struct deadline_queue *queue)
{
	uint64_t part_ms = queue->timeout_ms / queue->parts;

	return part_ms >= PART_LEAST_MS ? part_ms : queue->timeout_ms;
}

void deadline_set_at(struct deadline *deadline, struct deadline_queue *queue, uint64_t now_ms)
{
	deadline_clear(deadline);
	deadline->queue = queue;
	deadline->touched_ms = now_ms;
	TAILQ_INSERT_TAIL(&queue->entries, deadline, entry);
}

void deadline_set(struct deadline *deadline, struct deadline_queue *queue)
{
	deadline_set_at(deadline, queue, monotonic_coarse_ms());
}

void deadline_touch(struct deadline *deadline)
{
	uint64_t now_ms = monotonic_coarse_ms();

	/* The queue is ordered by clock ticks: within one tick the order does not matter. */
	if (!deadline->queue || deadline->touched_ms == now_ms)
		return;
	deadline->touched_ms = now_ms;
	TAILQ_REMOVE(&deadline->queue->entries, deadline, entry);
	TAILQ_INSERT_TAIL(&deadline->queue->entries, deadline, entry);
}

void deadline_clear(struct deadline *deadline)
{
	if (!deadline->queue)
		return;
	TAILQ_REMOVE(&deadline->queue->entries, deadline, entry);
	deadline->queue = NULL;
}

struct deadline *deadline_expired(struct deadline_queue *queue, uint64_t now_ms)
{
	struct deadline *first = TAILQ_FIRST(&queue->entries);

	/* An entry touched after now_ms was read has not expired. */
	if (!first || now_ms < first->touched_ms + wait_ms(queue))
		return NULL;
	return first;
}

uint64_t deadline_next_ms(const struct deadline_queue *queue, uint64_t now_ms)
{
	const struct deadline *first = TAILQ_FIRST(&queue->entries);
	uint64_t idle_ms, most_ms = wait_ms(queue);

	if (!first)
		return UINT64_MAX;
	idle_ms = now_ms - first->touched_ms;
	return idle_ms >= most_ms ? 0 : most_ms - idle_ms;
}
