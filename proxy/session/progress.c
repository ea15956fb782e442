// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See progress.h. */
#include "progress.h"

#include "monotonic.h"

void progress_start(struct progress *p, uint64_t now_ms)
{
	p->quiet_since_ms = now_ms;
}

void progress_check(struct progress *p, uint64_t moved, uint64_t waiting, uint64_t touched_ms)
{
	if (moved == p->moved && moved - waiting == p->acknowledged)
		return;
	p->moved = moved;
	p->acknowledged = moved - waiting;
	p->excused = false;
	/* Nothing is queued: quiet since the last move of data, or since the last check. */
	p->quiet_since_ms = waiting ? monotonic_coarse_ms() : touched_ms;
}

bool progress_has_stopped(const struct progress *p, uint64_t timeout_ms)
{
	return monotonic_coarse_ms() - p->quiet_since_ms >= timeout_ms;
}
