// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See busypoll.h. Whether looking pays is learnt from how long waits were: three of four have to be
 * short enough for looking to have found something. So what goes on all the time is conversations
 * between near peers, each of whose waits is short, but for those between one and the next.
 */
#include "busypoll.h"

#include <event2/event.h>
#include <sched.h>
#include <time.h>

#define CREDIT_ENOUGH 8
#define CREDIT_MOST   16
#define MISS	      2
/* To be woken takes about that long, so a wait that ended so was so much shorter. */
#define WAKE_US 30

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void busypoll_woke(struct busypoll *b)
{
	if (b->most_us && !b->woke_ns)
		b->woke_ns = now_ns();
}

static void learn(struct busypoll *b, uint64_t waited_us)
{
	bool looked = b->credit >= CREDIT_ENOUGH;

	if (waited_us > (looked ? b->most_us : b->most_us + WAKE_US))
		b->credit = b->credit > MISS ? b->credit - MISS : 0;
	else if (b->credit < CREDIT_MOST)
		b->credit++;
}

static bool may_look(const struct busypoll *b, uint64_t idle_ns)
{
	return b->credit >= CREDIT_ENOUGH &&
	       atomic_load_explicit(&b->turn->of, memory_order_relaxed) == b &&
	       now_ns() - idle_ns < (uint64_t)b->most_us * 1000;
}

int busypoll_loop(struct busypoll *b, struct event_base *base)
{
	uint64_t idle_ns;

	if (!b->most_us)
		return event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	for (idle_ns = now_ns();; idle_ns = now_ns()) {
		atomic_store_explicit(&b->turn->of, b, memory_order_relaxed);
		for (b->woke_ns = 0; !b->woke_ns;) {
			bool look = may_look(b, idle_ns);

			if (event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY | EVLOOP_ONCE |
							  (look ? EVLOOP_NONBLOCK : 0)) < 0)
				return -1;
			if (event_base_got_break(base))
				return 0;
			/* Whoever else wants this CPU has it first: perhaps it is a peer. */
			if (look && !b->woke_ns)
				sched_yield();
		}
		learn(b, (b->woke_ns - idle_ns) / 1000);
	}
}
