// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See admission.h. */
#include "admission.h"

/* Number of new sessions that counts as load. With fewer, waiting gains nothing. */
#define LOAD_LEAST   16
#define WAIT_MOST_MS 10

bool admission_under_load(const struct admission *admission)
{
	return admission->sessions >= LOAD_LEAST;
}

bool admission_wait(struct admission_wait *wait, const struct admission *admission, uint64_t now_ms)
{
	bool busy = admission->served != wait->served;

	wait->served = admission->served;
	if (busy && admission_under_load(admission)) {
		if (!wait->since_ms)
			wait->since_ms = now_ms;
		if (now_ms - wait->since_ms < WAIT_MOST_MS)
			return true;
	}
	wait->since_ms = 0;
	return false;
}
