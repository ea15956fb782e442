/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a worker waits. To fall asleep and be woken again takes longer than the next segment of a
 * conversation between near peers, and the waking costs the peer's CPU too. So a worker may look
 * for events a little longer before it sleeps: only while that finds some, and never for more than
 * the limit. Idle connections, and those whose peers are far, cost what they cost without.
 */
#ifndef TPROXY_BUSYPOLL_H
#define TPROXY_BUSYPOLL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct event_base;

/* Which worker looks: one at a time, the one that had the last event. */
struct busypoll_turn {
	_Atomic(const struct busypoll *) of;
};

struct busypoll {
	struct busypoll_turn *turn; /* of all workers */
	uint32_t most_us;	    /* of looking in a row; 0: sleep at once */
	int credit;		    /* waits that were short, less those that were long */
	uint64_t woke_ns;	    /* when the first event of this turn came, 0: none yet */
	/*
	 * Work that an event which is about to come would make unnecessary: done before a sleep,
	 * and while there is none, when it is old. debts counts it, NULL if there is no such work.
	 */
	const uint32_t *debts;
	void (*pay)(void *arg, bool all); /* all: also what is young */
	void *pay_arg;
};

/* An event has come that is a client's or a server's: to be said by each callback. */
void busypoll_woke(struct busypoll *b);

/* Serves events until event_base_loopbreak(). 0, or -1 if they cannot be waited for. */
int busypoll_loop(struct busypoll *b, struct event_base *base);

#endif
