/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Percentiles of latencies, and of other numbers. */
#ifndef TPROXY_BENCH_PERCENTILES_H
#define TPROXY_BENCH_PERCENTILES_H

#include <stddef.h>
#include <stdint.h>

/* Of these two, @count is 1 at least. */
void percentiles_sort(uint64_t *numbers, size_t count);
/* Returns the number that the given share of sorted ones, 0 to 1, does not exceed. */
uint64_t percentiles_at(const uint64_t *numbers, size_t count, double share);
/* Prints , "p50_us": ... of sorted latencies in ns to stdout. */
void percentiles_print(const uint64_t *latencies, size_t count);

#endif
