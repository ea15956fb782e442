/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rates of the last two minutes, by the second, for the plots of the page. */
#ifndef TPROXY_HISTORY_H
#define TPROXY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_SECONDS 120

enum history_series {
	HISTORY_REDIRECTED,
	HISTORY_DIRECT, /* observed ones too */
	HISTORY_REFUSED,
	HISTORY_FAILED, /* redirected, and the destination could not be reached */
	HISTORY_UP,	/* bytes */
	HISTORY_DOWN,
	_HISTORY_MAX,
};

struct history {
	bool has_last;
	uint64_t last[_HISTORY_MAX];
	uint64_t rates[HISTORY_SECONDS][_HISTORY_MAX];
	size_t next; /* index of the next sample */
	size_t n;    /* samples so far, HISTORY_SECONDS at most */
};

/* Adds a sample: the counters as they are, a second after the last ones. */
void history_add(struct history *history, const uint64_t counters[_HISTORY_MAX]);

/* Returns sample i of n, the oldest first. */
const uint64_t *history_at(const struct history *history, size_t i);

/* Returns the key of a series in JSON. */
const char *history_name(enum history_series series);

#endif
