/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a session makes progress. Bytes that the relay moves are progress. So are bytes that a
 * receiver's kernel acknowledges: a slow receiver drains a socket's buffer without an event.
 */
#ifndef TPROXY_PROGRESS_H
#define TPROXY_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* State of the last check. Times are of monotonic_coarse_ms(). */
struct progress {
	uint64_t moved, acknowledged; /* bytes, both directions together */
	uint64_t quiet_since_ms : 63; /* time of the last progress */
	bool excused : 1;	      /* an event was pending at the timeout: one more interval */
};

/* The timeout starts now. */
void progress_start(struct progress *p, uint64_t now_ms);

/*
 * Checks for progress since the last check. moved: bytes that were moved since the session began;
 * waiting: those of them that no receiver has acknowledged; touched_ms: when the last byte moved.
 */
void progress_check(struct progress *p, uint64_t moved, uint64_t waiting, uint64_t touched_ms);

/* True if there has been no progress for timeout_ms. */
bool progress_has_stopped(const struct progress *p, uint64_t timeout_ms);

#endif
