/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The timer of a worker's sessions: timeouts, probes for resets, keepalive of sessions that last.
 */
#ifndef TPROXY_TICK_H
#define TPROXY_TICK_H

#include <stdbool.h>
#include <stdint.h>

struct event;
struct session_env;

struct tick {
	struct session_env *env;
	struct event *timer;
	bool ticking;	     /* timer is scheduled */
	uint32_t probe_left; /* sessions left in the current pass over the probe list */
	uint64_t probed_ms;  /* when that pass began */
	uint32_t walk_most;  /* limit of sessions probed, and of new ones, in one tick */
	/* Longest interval while there are sessions: a session that comes in between may have a
	 * shorter timeout than those before it. */
	uint64_t most_ms;
};

/* Makes the timer. Returns 0 or -ENOMEM. After a failure tick_finish() may be called too. */
int tick_init(struct tick *tick, struct session_env *env);
void tick_finish(struct tick *tick);

/* The timeouts of the environment's queues were set, or have changed: sets most_ms. */
void tick_configure(struct tick *tick);

/* A session was created or attached: makes sure that the timer runs, if there are sessions. */
void tick_need(struct tick *tick);

#endif
