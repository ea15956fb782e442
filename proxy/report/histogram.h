/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Histograms of times of sessions, as Prometheus has them: numbers of sessions up to each of some
 * fixed bounds, and the sum of all times. Each worker has its own, which it writes without locks or
 * atomic read-modify-write; other threads may read them at any time and add them up.
 *
 * Times are differences of monotonic_coarse_ms(), so they are precise to a tick of the kernel (1 to
 * 10 ms). The session has these values already: the histograms cost no call of a clock.
 */
#ifndef TPROXY_HISTOGRAM_H
#define TPROXY_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum histogram_id {
	HISTOGRAM_CONNECT,    /* from accept() to the end of connect() and of a handshake */
	HISTOGRAM_FIRST_BYTE, /* from accept() to the first byte of the server */
	HISTOGRAM_LIFE,	      /* from accept() to the end of the session */
	_HISTOGRAM_MAX,
};

#define HISTOGRAM_BOUNDS_MAX 13

struct histogram {
	/* Sessions by the first bound that is not exceeded; after the bounds, those above all. */
	_Atomic uint64_t buckets[HISTOGRAM_BOUNDS_MAX + 1];
	_Atomic uint64_t sum_ms;
};

/* Adds n to a counter that has one writer. */
static inline void histogram_count(_Atomic uint64_t *counter, uint64_t n)
{
	uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

/* Returns the bounds in milliseconds, in ascending order, and their number. */
const uint32_t *histogram_bounds(enum histogram_id id, size_t *ret_n);

/* Counts one session. histograms: all of one writer, _HISTOGRAM_MAX. */
void histogram_add(struct histogram *histograms, enum histogram_id id, uint64_t ms);

/* Adds *from to *to, which no other thread uses. */
void histogram_sum(struct histogram *to, const struct histogram *from);

#endif
