/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Timeouts of many sessions, without a timer for each. All entries of a queue have the same
 * timeout. The queue is in the order of the last activity, so the next entry to expire is at its
 * head. Activity moves an entry to the tail. One timer checks the heads of the queues. A queue
 * belongs to one thread.
 */
#ifndef TPROXY_DEADLINE_H
#define TPROXY_DEADLINE_H

#include <stdint.h>
#include <sys/queue.h>
#include <sys/time.h>

struct deadline {
	TAILQ_ENTRY(deadline) entry;  /* deadline_queue::entries */
	struct deadline_queue *queue; /* NULL: in no queue */
	uint64_t touched_ms;	      /* last activity, of monotonic_coarse_ms() */
};

struct deadline_queue {
	TAILQ_HEAD(, deadline) entries;
	uint64_t timeout_ms;
	uint32_t parts; /* entries expire after timeout_ms / parts, for checks in between */
};

/* For libevent. */
static inline struct timeval deadline_timeval(uint64_t ms)
{
	return (struct timeval){ .tv_sec = (time_t)(ms / 1000),
				 .tv_usec = (suseconds_t)(ms % 1000 * 1000) };
}

/* Sets parts to 1. The caller sets timeout_ms, and may change it at any time. */
void deadline_queue_init(struct deadline_queue *queue);

/* Puts the entry at the tail of queue, with activity now. Takes it off its queue before. */
void deadline_set(struct deadline *deadline, struct deadline_queue *queue);
/* The same for a caller that has just read monotonic_coarse_ms(). */
void deadline_set_at(struct deadline *deadline, struct deadline_queue *queue, uint64_t now_ms);
/* Notes activity now. Does nothing if the entry is in no queue. */
void deadline_touch(struct deadline *deadline);
/* Takes the entry off its queue, if it is in one. */
void deadline_clear(struct deadline *deadline);

/* Returns an entry that has expired, or NULL. The caller sets it again or clears it. */
struct deadline *deadline_expired(struct deadline_queue *queue, uint64_t now_ms);
/* Returns the ms from now_ms until the next entry expires; UINT64_MAX if the queue is empty. */
uint64_t deadline_next_ms(const struct deadline_queue *queue, uint64_t now_ms);

#endif
