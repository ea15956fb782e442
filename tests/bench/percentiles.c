/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* See percentiles.h. */
#include "percentiles.h"

#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void percentiles_sort(uint64_t *numbers, size_t count)
{
	qsort(numbers, count, sizeof(*numbers), compare);
}

uint64_t percentiles_at(const uint64_t *numbers, size_t count, double share)
{
	return numbers[(size_t)(share * (double)(count - 1))];
}

void percentiles_print(const uint64_t *latencies, size_t count)
{
	static const struct {
		const char *name;
		double share;
	} percentiles[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99_9", 0.999 } };

	for (size_t i = 0; i < sizeof(percentiles) / sizeof(percentiles[0]); i++)
		printf(", \"%s_us\": %.3f", percentiles[i].name,
		       (double)percentiles_at(latencies, count, percentiles[i].share) / 1e3);
}
