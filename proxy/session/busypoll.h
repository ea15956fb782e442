/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The wait for events of a worker, with adaptive spinning (not SO_BUSY_POLL). A sleep and a wakeup
 * take longer than the next segment between nearby peers, and the wakeup costs the peer's CPU too.
 * A worker may therefore poll for events for a short time before it sleeps. It does so only while
 * that finds events, and never longer than the limit. Idle connections and distant peers cost no
 * extra CPU.
 */
#ifndef TPROXY_BUSYPOLL_H
#define TPROXY_BUSYPOLL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct event_base;

/*
 * The worker that may spin now. At most one may, the one that last had an event, so that spinning
 * never takes more than one CPU.
 */
struct busypoll_turn {
	_Atomic(const struct busypoll *) of;
};

struct busypoll {
	struct busypoll_turn *turn; /* shared by all workers */
	uint32_t most_us;	    /* limit of one spin; 0: never spin */
	int credit;		    /* short waits less long waits, see learn() */
	uint64_t woke_ns;	    /* when the first event of this pass came; 0: none yet */
	/*
	 * Deferred work that the next event may make unnecessary. It is done before a sleep, and
	 * between events when it is old. *debts counts it; debts is NULL if there is no such work.
	 */
	const uint32_t *debts;
	void (*pay)(void *arg, bool all); /* all: recent work too */
	void *pay_arg;
};

/*
 * Notes an event of a client or a server. Every callback for such an event calls it first, in the
 * worker's thread. The spin heuristic needs to know that there was work.
 */
void busypoll_woke(struct busypoll *b);

/*
 * Runs the event loop until event_base_loopbreak(). Returns 0, or -1 if the loop failed. Worker's
 * thread.
 */
int busypoll_loop(struct busypoll *b, struct event_base *base);

#endif
