/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The wait for events of a worker, with adaptive spinning (not SO_BUSY_POLL). A sleep and a wakeup
 * take longer than the next segment between nearby peers, and the wakeup costs the peer's CPU too.
 * A worker may therefore poll for events for a short time before it sleeps. It does so only while
 * that finds events, and never longer than the limit. Idle connections and distant peers cost no
 * extra CPU.
 */
#ifndef TPROXY_SPIN_H
#define TPROXY_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct event_base;

/*
 * The worker that may spin now. At most one may, the one that last had an event, so that spinning
 * never takes more than one CPU.
 */
struct spin_owner {
	_Atomic(const struct spin *) current;
};

struct spin {
	struct spin_owner *owner; /* shared by all workers */
	uint32_t most_us;	  /* limit of one spin; 0: never spin */
	int credit;		  /* short waits less long waits, see learn() */
	uint64_t event_ns;	  /* when the first event of this pass came; 0: none yet */
	/*
	 * Deferred work that the next event may make unnecessary. It is done before a sleep, and
	 * between events when it is old. *deferred counts it; deferred is NULL if there is no such
	 * work.
	 */
	const uint32_t *deferred;
	void (*do_deferred)(void *arg, bool all); /* all: recent work too */
	void *deferred_arg;
};

/*
 * Notes an event of a client or a server. Every callback for such an event calls it first, in the
 * worker's thread. The spin heuristic needs to know that there was work.
 */
void spin_note_event(struct spin *s);

/*
 * Runs the event loop until event_base_loopbreak(). Returns 0, or -1 if the loop failed. Worker's
 * thread.
 */
int spin_loop(struct spin *s, struct event_base *base);

#endif
