/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why sessions end, and counters. Each worker has a struct stats of its own, which it alone writes;
 * others may read it at any time.
 */
#ifndef TPROXY_STATS_H
#define TPROXY_STATS_H

#include <stdatomic.h>
#include <stdint.h>

enum close_reason {
	CLOSE_DONE, /* both sides sent their end of file */
	CLOSE_RESET_BY_CLIENT,
	CLOSE_RESET_BY_SERVER,
	CLOSE_NO_DESTINATION, /* connected to the relay itself */
	CLOSE_DIAL_FAILED,
	CLOSE_CONNECT_TIMEOUT,
	CLOSE_IDLE_TIMEOUT,
	CLOSE_HALF_CLOSED_TIMEOUT,
	CLOSE_DRAIN_TIMEOUT,
	CLOSE_NO_MEMORY,
	CLOSE_CGROUP_LIMIT,
	_CLOSE_REASON_MAX,
};

struct stats {
	_Atomic uint64_t accepted;
	_Atomic uint64_t bytes_up;   /* client to server */
	_Atomic uint64_t bytes_down; /* server to client */
	_Atomic uint64_t closed[_CLOSE_REASON_MAX];
	_Atomic uint64_t accept_paused; /* times that descriptors, memory or the limit stopped us */
	_Atomic uint64_t spliced;	/* bytes of the above that went through a pipe */
};

/* One writer, so no locked instruction is needed. */
static inline void stats_add(_Atomic uint64_t *counter, uint64_t n)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

const char *close_reason_name(enum close_reason reason);

/* Adds from to *to, which no other thread uses. */
void stats_sum(struct stats *to, const struct stats *from);

/* One line for each counter that is not zero, at level info. */
void stats_log(const struct stats *stats, uint64_t sessions);

#endif
