/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The client half of tproxy-bench: one workload, one JSON object on stdout. */
#ifndef TPROXY_BENCH_RUN_H
#define TPROXY_BENCH_RUN_H

#include <stdint.h>

struct client_options;

enum workload {
	WORKLOAD_RR,
	WORKLOAD_CRR,
	WORKLOAD_CONNECT,
	WORKLOAD_HOLD,
	WORKLOAD_BULK_UP,
	WORKLOAD_BULK_DOWN,
	WORKLOAD_SHAPE,
	WORKLOAD_REFUSED,
	_WORKLOAD_MAX,
};

extern const char *const workload_names[_WORKLOAD_MAX];

/* Runs the workload, prints the result and exits: status 0 with numbers, 1 with a reason. */
_Noreturn void run_clients(enum workload workload, const struct client_options *options);

/*
 * Prints the numbers of a transfer of @bytes or, if they are 0, of @count latencies in ns, which it
 * sorts: members of a JSON object.
 */
void run_print(uint64_t bytes, uint64_t *latencies, unsigned int count, double seconds);

#endif
