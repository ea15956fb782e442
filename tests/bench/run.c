/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See run.h. Each client is a thread; all start at once, at a barrier.
 *
 *   start   give each client its quota and its slice of one array for the latencies
 *   wait    once a second, sum up the clients' progress: the run has stalled if nothing has moved
 *           for STALL_SECONDS, and is too slow after RUN_SECONDS_MAX
 *   report  print one JSON object
 *
 * A run with a single failure, a wrong byte or a stall prints a reason and no number.
 */
#include "run.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bulk.h"
#include "client.h"
#include "hold.h"
#include "latency.h"
#include "pair.h"
#include "percentiles.h"

#define STALL_SECONDS	10
#define RUN_SECONDS_MAX 600 /* limit of a run that makes progress */

const char *const workload_names[_WORKLOAD_MAX] = {
	[WORKLOAD_RR] = "rr",		[WORKLOAD_CRR] = "crr",
	[WORKLOAD_CONNECT] = "connect", [WORKLOAD_HOLD] = "hold",
	[WORKLOAD_BULK_UP] = "bulk-up", [WORKLOAD_BULK_DOWN] = "bulk-down",
	[WORKLOAD_SHAPE] = "shape",	[WORKLOAD_REFUSED] = "refused",
};

struct run {
	enum workload workload;
	const struct client_options *options;
	uint64_t *latencies;
	struct client *clients;
	pthread_barrier_t start;
	pthread_mutex_t lock; /* protects the two members below */
	pthread_cond_t changed;
	unsigned int running;
};

static void *client_main(void *arg)
{
	static void (*const bodies[_WORKLOAD_MAX])(struct client *) = {
		[WORKLOAD_RR] = latency_rr,	      [WORKLOAD_CRR] = latency_crr,
		[WORKLOAD_CONNECT] = latency_connect, [WORKLOAD_HOLD] = hold_open,
		[WORKLOAD_BULK_UP] = bulk_up,	      [WORKLOAD_BULK_DOWN] = bulk_down,
		[WORKLOAD_SHAPE] = latency_shape,     [WORKLOAD_REFUSED] = latency_refused,
	};
	struct client *c = arg;
	struct run *run = c->run;

	pthread_barrier_wait(&run->start);
	if (c->options->pair)
		pair_run(c, run->workload);
	else
		bodies[run->workload](c);

	pthread_mutex_lock(&run->lock);
	run->running--;
	pthread_cond_signal(&run->changed);
	pthread_mutex_unlock(&run->lock);
	return NULL;
}

static uint64_t run_progress(const struct run *run)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < run->options->clients; i++)
		sum += atomic_load_explicit(&run->clients[i].progress, memory_order_relaxed);
	return sum;
}

/* Waits for the clients to end. Returns NULL, or the reason for not waiting any longer. */
static const char *run_wait(struct run *run)
{
	const char *reason = NULL;
	uint64_t last = 0;
	int idle_seconds = 0;

	pthread_mutex_lock(&run->lock);
	for (int seconds = 0; run->running > 0 && !reason;) {
		struct timespec tick;
		uint64_t progress;

		clock_gettime(CLOCK_REALTIME, &tick);
		tick.tv_sec++;
		if (pthread_cond_timedwait(&run->changed, &run->lock, &tick) != ETIMEDOUT)
			continue;

		progress = run_progress(run);
		idle_seconds = progress == last ? idle_seconds + 1 : 0;
		last = progress;
		if (idle_seconds == STALL_SECONDS)
			reason = "stalled: nothing moves";
		else if (++seconds == RUN_SECONDS_MAX)
			reason = "too slow: the time is up";
	}
	pthread_mutex_unlock(&run->lock);
	return reason;
}

void run_print(uint64_t bytes, uint64_t *latencies, unsigned int count, double seconds)
{
	if (bytes) {
		printf("\"bytes\": %llu, \"intact\": true, \"gbit_s\": %.4f",
		       (unsigned long long)bytes, (double)bytes * 8 / 1e9 / seconds);
		return;
	}
	printf("\"count\": %u, \"rate\": %.2f", count, count / seconds);
	percentiles_sort(latencies, count);
	percentiles_print(latencies, count);
}

/* @why is NULL if all clients have ended. Returns the exit status: 0, or 1 if there is a reason. */
static int run_report(struct run *run, const char *why, double seconds)
{
	const struct client_options *options = run->options;
	uint64_t bytes = 0;
	unsigned int failures = 0, done = 0;

	for (unsigned int i = 0; i < options->clients; i++) {
		const struct client *c = &run->clients[i];

		bytes += c->bytes;
		failures += c->failures;
		/* A client whose time was up has left a gap behind its latencies. */
		if (!why)
			memmove(run->latencies + done, c->latencies,
				c->done * sizeof(*c->latencies));
		done += c->done;
		if (!why && c->failures)
			why = c->reason;
	}

	printf("{\"workload\": \"%s\", \"clients\": %u, \"seconds\": %.6f, \"failures\": %u",
	       workload_names[run->workload], options->clients, seconds, failures);
	fputs(", ", stdout);
	if (why)
		printf("\"progress\": %llu, \"reason\": \"%s\"",
		       (unsigned long long)run_progress(run), why);
	else if (options->pair)
		pair_print(&run->clients[0]);
	else
		run_print(bytes, run->latencies, done, seconds);
	puts("}");
	fflush(stdout);
	return why ? 1 : 0;
}

static void run_start(struct run *run)
{
	const struct client_options *options = run->options;
	unsigned int given = 0;

	for (unsigned int i = 0; i < options->clients; i++) {
		struct client *c = &run->clients[i];
		unsigned int end =
			(unsigned int)((uint64_t)options->count * (i + 1) / options->clients);

		c->run = run;
		c->options = options;
		c->latencies = run->latencies + given;
		c->quota = end - given;
		c->done = c->quota;
		given = end;
		errno = pthread_create(&c->thread, NULL, client_main, c);
		if (errno) {
			perror("pthread_create");
			exit(1);
		}
	}
}

_Noreturn void run_clients(enum workload workload, const struct client_options *options)
{
	struct run run = {
		.workload = workload,
		.options = options,
		.latencies = calloc(options->count, sizeof(*run.latencies)),
		.clients = calloc(options->clients, sizeof(*run.clients)),
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
		.running = options->clients,
	};
	const char *why;
	uint64_t begin;
	int r;

	if (!run.latencies || !run.clients) {
		perror("calloc");
		exit(1);
	}
	pthread_barrier_init(&run.start, NULL, options->clients + 1);
	run_start(&run);
	begin = client_now_ns();
	pthread_barrier_wait(&run.start);
	why = run_wait(&run);
	r = run_report(&run, why, (double)(client_now_ns() - begin) / 1e9);
	if (workload == WORKLOAD_HOLD && r == 0)
		r = hold_keep(run.clients, options);

	/* After a stall the threads still use the memory that run points to; exit() frees it. */
	exit(r);
}
