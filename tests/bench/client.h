/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One client of a workload: a thread with blocking sockets, so that the numbers are what a plain
 * program sees. Its own thread calls these functions; the main thread may when that has ended.
 */
#ifndef TPROXY_BENCH_CLIENT_H
#define TPROXY_BENCH_CLIENT_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pattern.h"

struct pairs;
struct run;
struct shape;

struct client_options {
	struct sockaddr_in address;
	unsigned int count;    /* exchanges or connections, total of all clients */
	unsigned int clients;  /* concurrent clients or streams */
	unsigned int seconds;  /* duration of a bulk transfer; upper limit for rr, shape and hold */
	unsigned int pause_us; /* pause between two exchanges of rr, in microseconds */
	unsigned int addresses;	   /* of the workload connect, from address on, used in turn */
	const struct shape *shape; /* for the workload shape only */
	bool pair;		   /* bursts by turns, see pair.h */
	int cgroups[2];		   /* of the two sides: cgroup.procs */
	unsigned int burst;	   /* exchanges or connections of a burst; 0 = as usual */
};

#define CLIENT_COUNT_MAX     10000000
#define CLIENT_CLIENTS_MAX   1024
#define CLIENT_SECONDS_MAX   300
#define CLIENT_PAUSE_US_MAX  999999
#define CLIENT_ADDRESSES_MAX 65536
#define CLIENT_BURST_MAX     250

#define NS_PER_SECOND 1000000000ULL

struct client {
	pthread_t thread;
	struct run *run; /* of run.c */
	const struct client_options *options;
	unsigned int quota;
	unsigned int done;	/* below quota only if the time was up first */
	uint64_t *latencies;	/* in ns: quota entries, a slice of the run's array */
	int *held;		/* workload hold: quota descriptors */
	struct pairs *pairs;	/* of pair.c, with options->pair */
	atomic_ullong progress; /* amount of work done, for the stall check of run.c */
	uint64_t bytes;		/* bytes of the pattern sent or received */
	unsigned int failures;
	char reason[128]; /* reason of the first failure */
	unsigned char buffer[PATTERN_CHUNK];
};

/* CLOCK_MONOTONIC. */
uint64_t client_now_ns(void);

/*
 * Counts a failure, and keeps the reason of the first one. The reason goes into JSON unescaped: it
 * must have no quotes or backslashes. Returns -1.
 */
__attribute__((format(printf, 2, 3))) int client_fail(struct client *c, const char *format, ...);
/* The same with "what: strerror(errno)" as the reason. Returns -1. */
int client_fail_errno(struct client *c, const char *what);

/* Counts work done. A run whose clients count none for some seconds has stalled. */
void client_progress(struct client *c, uint64_t amount);

/*
 * Returns a socket that is connected to the server: with the options of options->shape if it is
 * set, otherwise with TCP_NODELAY. Returns -1 after a failure. These five count the failure.
 */
int client_connect(struct client *c);
/* The same, to another address. */
int client_connect_to(struct client *c, const struct sockaddr_in *address);
/* The same with a socket that exists. Returns 0 or -1; the socket remains open. */
int client_connect_with(struct client *c, int fd, const struct sockaddr_in *address);
/* Receives exactly @size bytes. Returns 0 or -1. */
int client_receive(struct client *c, int fd, void *ret_bytes, size_t size);
/* One request, one response; counts 1 as progress. The number detects a response to an earlier
 * request. Returns 0 or -1. */
int client_exchange(struct client *c, int fd, uint64_t number);

#endif
