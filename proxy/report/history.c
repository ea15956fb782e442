// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See history.h. A counter that decreases has started again, after another load: its rate is 0. */
#include "history.h"

#include <string.h>

void history_add(struct history *history, const uint64_t counters[_HISTORY_MAX])
{
	uint64_t *rates = history->rates[history->next];
	size_t i;

	if (history->has_last) {
		for (i = 0; i < _HISTORY_MAX; i++)
			rates[i] =
				counters[i] > history->last[i] ? counters[i] - history->last[i] : 0;
		history->next = (history->next + 1) % HISTORY_SECONDS;
		if (history->n < HISTORY_SECONDS)
			history->n++;
	}
	memcpy(history->last, counters, sizeof(history->last));
	history->has_last = true;
}

const uint64_t *history_at(const struct history *history, size_t i)
{
	return history->rates[(history->next + HISTORY_SECONDS - history->n + i) % HISTORY_SECONDS];
}

const char *history_name(enum history_series series)
{
	static const char *const names[_HISTORY_MAX] = {
		[HISTORY_REDIRECTED] = "redirected",
		[HISTORY_DIRECT] = "direct",
		[HISTORY_REFUSED] = "refused",
		[HISTORY_FAILED] = "failed",
		[HISTORY_UP] = "up",
		[HISTORY_DOWN] = "down",
	};

	return names[series];
}
