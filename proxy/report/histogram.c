// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See histogram.h. The bounds are fixed, because a change of bounds breaks queries over stored
 * numbers. A session counts in three histograms once, so a linear search is enough.
 */
#include "histogram.h"

#include "util.h"

/* The shortest bound is about a tick of the kernel. The longest one is near --connect-timeout. */
static const uint32_t latency_bounds[] = {
	5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000,
};
/* To a day: connections of databases and of ssh last that long. */
static const uint32_t life_bounds[] = {
	10, 100, 500, 1000, 5000, 10000, 60000, 300000, 600000, 3600000, 21600000, 86400000,
};
_Static_assert(ARRAY_SIZE(latency_bounds) <= HISTOGRAM_BOUNDS_MAX, "too many bounds");
_Static_assert(ARRAY_SIZE(life_bounds) <= HISTOGRAM_BOUNDS_MAX, "too many bounds");

const uint32_t *histogram_bounds(enum histogram_id id, size_t *ret_n)
{
	*ret_n = id == HISTOGRAM_LIFE ? ARRAY_SIZE(life_bounds) : ARRAY_SIZE(latency_bounds);
	return id == HISTOGRAM_LIFE ? life_bounds : latency_bounds;
}

void histogram_add(struct histogram *histograms, enum histogram_id id, uint64_t ms)
{
	struct histogram *h = &histograms[id];
	const uint32_t *bounds;
	size_t n, i = 0;

	bounds = histogram_bounds(id, &n);
	while (i < n && ms > bounds[i])
		i++;
	histogram_count(&h->buckets[i], 1);
	histogram_count(&h->sum_ms, ms);
}

void histogram_sum(struct histogram *to, const struct histogram *from)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(to->buckets); i++)
		histogram_count(&to->buckets[i],
				atomic_load_explicit(&from->buckets[i], memory_order_relaxed));
	histogram_count(&to->sum_ms, atomic_load_explicit(&from->sum_ms, memory_order_relaxed));
}
