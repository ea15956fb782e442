/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The client half of tproxy-bench: one workload, one JSON object on stdout. */
#ifndef TPROXY_BENCH_CLIENT_H
#define TPROXY_BENCH_CLIENT_H

#include <netinet/in.h>

struct shape;

enum workload {
	WORKLOAD_RR,
	WORKLOAD_CRR,
	WORKLOAD_CONNECT,
	WORKLOAD_HOLD,
	WORKLOAD_BULK_UP,
	WORKLOAD_BULK_DOWN,
	WORKLOAD_SHAPE,
	_WORKLOAD_MAX,
};

struct client_options {
	struct sockaddr_in address;
	unsigned int count;    /* exchanges or connections, total of all clients */
	unsigned int clients;  /* concurrent clients or streams */
	unsigned int seconds;  /* duration of a bulk transfer; upper limit for rr, shape and hold */
	unsigned int pause_us; /* pause between two exchanges of rr, in microseconds */
	const struct shape *shape; /* for the workload shape only */
};

#define CLIENT_COUNT_MAX    10000000
#define CLIENT_CLIENTS_MAX  1024
#define CLIENT_SECONDS_MAX  300
#define CLIENT_PAUSE_US_MAX 999999

extern const char *const workload_names[_WORKLOAD_MAX];

/* Runs the workload, prints the result and exits: status 0 with numbers, 1 with a reason. */
_Noreturn void client_run(enum workload workload, const struct client_options *options);

#endif
