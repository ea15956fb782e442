/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Timeouts of many sessions without a timer for each. All sessions of one kind have the same
 * timeout, so a queue in the order of their last activity has the next one to expire at its head:
 * activity moves a session to the tail, and one timer looks at the heads.
 */
#ifndef TPROXY_DEADLINE_H
#define TPROXY_DEADLINE_H

#include <stdint.h>
#include <sys/queue.h>

struct deadline {
	TAILQ_ENTRY(deadline) entry;  /* deadline_queue::entries */
	struct deadline_queue *queue; /* NULL: in none */
	uint64_t touched_ms;
};

struct deadline_queue {
	TAILQ_HEAD(, deadline) entries;
	uint64_t timeout_ms;
	uint32_t looks; /* a session expires after this part of the timeout, to be looked at */
};

/* CLOCK_MONOTONIC, at the kernel's tick: a few ms coarse, and free of a system call. */
uint64_t deadline_now_ms(void);

/* The caller sets timeout_ms, and may change it at any time. looks is 1. */
void deadline_queue_init(struct deadline_queue *queue);

/* Starts anew in that queue, whichever it was in before. */
void deadline_set(struct deadline *deadline, struct deadline_queue *queue);
/* There was activity. */
void deadline_touch(struct deadline *deadline);
void deadline_clear(struct deadline *deadline);

/* One that has expired, or NULL. The caller clears it. */
struct deadline *deadline_expired(struct deadline_queue *queue, uint64_t now_ms);
/* When the next one expires: ms from now, UINT64_MAX if the queue is empty. */
uint64_t deadline_next_ms(const struct deadline_queue *queue, uint64_t now_ms);

#endif
