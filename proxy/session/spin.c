// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See spin.h. The worker learns from the length of its waits whether spinning pays. More
 * than two in three waits must be short enough for a spin to have found the event. A short wait
 * adds 1 to the credit, a long one takes MISS. This is the case for conversations between nearby
 * peers, whose waits are short except between one conversation and the next.
 */
#include "spin.h"

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

void spin_note_event(struct spin *s)
{
	if (!s->event_ns)
		s->event_ns = s->most_us ? now_ns() : 1;
}

static void learn(struct spin *s, uint64_t waited_us)
{
	bool spun = s->credit >= CREDIT_ENOUGH;

	if (waited_us > (spun ? s->most_us : s->most_us + WAKE_US))
		s->credit = s->credit > MISS ? s->credit - MISS : 0;
	else if (s->credit < CREDIT_MOST)
		s->credit++;
}

static bool may_spin(const struct spin *s, uint64_t idle_ns)
{
	return s->credit >= CREDIT_ENOUGH &&
	       atomic_load_explicit(&s->owner->current, memory_order_relaxed) == s &&
	       now_ns() - idle_ns < (uint64_t)s->most_us * 1000;
}

/* Runs one pass of the event loop. Returns 0, 1 after event_base_loopbreak(), or -1. */
static int run_once(struct event_base *base, int flags)
{
	if (event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY | EVLOOP_ONCE | flags) < 0)
		return -1;
	return event_base_got_break(base);
}

/* Sleeps until an event comes. Does deferred work before, unless an event is ready already. */
static int sleep_once(struct spin *s, struct event_base *base)
{
	if (s->deferred && *s->deferred) {
		int r = run_once(base, EVLOOP_NONBLOCK);

		if (r || s->event_ns)
			return r;
		s->do_deferred(s->deferred_arg, /* all= */ true);
	}
	return run_once(base, 0);
}

int spin_loop(struct spin *s, struct event_base *base)
{
	uint64_t idle_ns;
	int r;

	for (;;) {
		idle_ns = 0;
		if (s->most_us) {
			idle_ns = now_ns();
			atomic_store_explicit(&s->owner->current, s, memory_order_relaxed);
		}
		if (s->deferred && *s->deferred)
			s->do_deferred(s->deferred_arg, /* all= */ false);
		for (s->event_ns = 0; !s->event_ns;) {
			bool spins = s->most_us && may_spin(s, idle_ns);

			r = spins ? run_once(base, EVLOOP_NONBLOCK) : sleep_once(s, base);
			if (r)
				return r < 0 ? -1 : 0;
			/* Let other threads use this CPU first: one of them may be the peer. */
			if (spins && !s->event_ns)
				sched_yield();
		}
		if (s->most_us)
			learn(s, (s->event_ns - idle_ns) / 1000);
	}
}
