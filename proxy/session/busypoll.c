// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See busypoll.h. The worker learns from the length of its waits whether spinning pays. More
 * than two in three waits must be short enough for a spin to have found the event. A short wait
 * adds 1 to the credit, a long one takes MISS. This is the case for conversations between nearby
 * peers, whose waits are short except between one conversation and the next.
 */
#include "busypoll.h"

#include <event2/event.h>
#include <sched.h>
#include <time.h>

/* Credit at which a worker spins, the limit of the credit, and what a long wait costs. */
#define CREDIT_ENOUGH 8
#define CREDIT_MOST   16
#define MISS	      2
/* Duration of a wakeup: a wait that ended with one was shorter by about so much. */
#define WAKE_US 30

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void busypoll_woke(struct busypoll *b)
{
	if (!b->woke_ns)
		b->woke_ns = b->most_us ? now_ns() : 1;
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

/* Runs one pass of the event loop. Returns 0, 1 after event_base_loopbreak(), or -1. */
static int turn(struct event_base *base, int flags)
{
	if (event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY | EVLOOP_ONCE | flags) < 0)
		return -1;
	return event_base_got_break(base);
}

/* Sleeps until an event comes. Does deferred work before, unless an event is ready already. */
static int sleep_turn(struct busypoll *b, struct event_base *base)
{
	if (b->debts && *b->debts) {
		int r = turn(base, EVLOOP_NONBLOCK);

		if (r || b->woke_ns)
			return r;
		b->pay(b->pay_arg, /* all= */ true);
	}
	return turn(base, 0);
}

int busypoll_loop(struct busypoll *b, struct event_base *base)
{
	uint64_t idle_ns;
	int r;

	for (;;) {
		idle_ns = 0;
		if (b->most_us) {
			idle_ns = now_ns();
			atomic_store_explicit(&b->turn->of, b, memory_order_relaxed);
		}
		if (b->debts && *b->debts)
			b->pay(b->pay_arg, /* all= */ false);
		for (b->woke_ns = 0; !b->woke_ns;) {
			bool look = b->most_us && may_look(b, idle_ns);

			r = look ? turn(base, EVLOOP_NONBLOCK) : sleep_turn(b, base);
			if (r)
				return r < 0 ? -1 : 0;
			/* Let other threads use this CPU first: one of them may be the peer. */
			if (look && !b->woke_ns)
				sched_yield();
		}
		if (b->most_us)
			learn(b, (b->woke_ns - idle_ns) / 1000);
	}
}
