/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The timer of a worker: timeouts, probes for resets, settling of sessions that last. */
#ifndef TPROXY_TICK_H
#define TPROXY_TICK_H

struct worker;

/* Makes worker::tick. Returns 0 or -ENOMEM. The worker frees the event. */
int tick_init(struct worker *worker);

/* The timeouts of the worker's queues have changed: sets worker::tick_most_ms. */
void tick_configure(struct worker *worker);

/* The worker has a session now: makes sure that the timer runs. */
void tick_need(struct worker *worker);

#endif
