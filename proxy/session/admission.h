/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Accept throttle. A client in the backlog costs nothing, but the CPU time of each connection grows
 * with the number of accepted ones (tests/bench). While a burst of new sessions keeps the worker
 * busy, further clients stay in the backlog until the worker has served all ready events, 10 ms at
 * most.
 *
 * A session is new until it has keepalive (session_start_keepalive()). Sessions that last are not
 * counted, because they may be busy forever. New sessions that wait for a server cause no events,
 * so they do not keep the worker busy.
 *
 * Each worker has its own struct admission. All functions run in the worker's thread.
 */
#ifndef TPROXY_ADMISSION_H
#define TPROXY_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

/* The new sessions of a worker. */
struct admission {
	uint32_t sessions;
	uint64_t served; /* events of new sessions, since the worker began */
};

/* State of each listening socket, initially all zero. */
struct admission_wait {
	uint64_t since_ms; /* since when a client waits; 0: no client waits */
	uint64_t served;   /* admission::served at the last call of admission_wait() */
};

/* True under load: there are many new sessions, and throughput counts more than latency. */
bool admission_under_load(const struct admission *admission);

/*
 * True if a client that is in the backlog must wait. Called in each pass of the event loop while
 * there is one. now_ms: of monotonic_coarse_ms().
 */
bool admission_wait(struct admission_wait *wait, const struct admission *admission,
		    uint64_t now_ms);

#endif
