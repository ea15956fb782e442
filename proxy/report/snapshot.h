/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state of the relay and of the kernel half as one JSON object, for the page: live connections,
 * sums of them by program and destination, counters by reason, rules, rates of the last minutes.
 */
#ifndef TPROXY_SNAPSHOT_H
#define TPROXY_SNAPSHOT_H

#include <stdint.h>
#include <stdio.h>

struct history;
struct live;
struct metrics;
struct upstreams;

/* Version of the members' meaning. New members do not change it. */
#define SNAPSHOT_JSON_VERSION 1
#define SNAPSHOT_CONTENT_TYPE "application/json"

struct snapshot {
	const struct metrics *metrics;
	const struct history *history;
	const struct live *live; /* NULL: no connection can be read */
	const struct upstreams *upstreams;
	uint32_t pid; /* of the relay, in the initial PID namespace */
	uint64_t uptime_s;
	uint64_t now_ns; /* CLOCK_MONOTONIC, as in the maps */
	uint64_t now_ms; /* of monotonic_coarse_ms() */
};

/* Sorts the rows of snapshot->live. */
void snapshot_write(FILE *out, const struct snapshot *snapshot);

#endif
