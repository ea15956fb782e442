/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Latencies as members of a JSON object. */
#ifndef TPROXY_BENCH_PERCENTILES_H
#define TPROXY_BENCH_PERCENTILES_H

#include <stddef.h>
#include <stdint.h>

/* Sorts @latencies, which are in ns. There must be one. */
void percentiles_sort(uint64_t *latencies, size_t count);
/* Returns the latency that the given share of sorted ones, 0 to 1, does not exceed. */
uint64_t percentiles_at(const uint64_t *latencies, size_t count, double share);
/* Prints , "p50_us": ... of sorted latencies to stdout. */
void percentiles_print(const uint64_t *latencies, size_t count);

#endif
