// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See crowd.h. */
#include "crowd.h"

/* Number of new sessions that counts as load. With fewer, waiting gains nothing. */
#define CROWD_LEAST  16
#define WAIT_MOST_MS 10

bool crowd_is(const struct crowd *crowd)
{
	return crowd->sessions >= CROWD_LEAST;
}

bool crowd_wait(struct crowd_wait *wait, const struct crowd *crowd, uint64_t now_ms)
{
	bool busy = crowd->served != wait->served;

	wait->served = crowd->served;
	if (busy && crowd_is(crowd)) {
		if (!wait->since_ms)
			wait->since_ms = now_ms;
		if (now_ms - wait->since_ms < WAIT_MOST_MS)
			return true;
	}
	wait->since_ms = 0;
	return false;
}
