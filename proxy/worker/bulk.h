/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Turns of bulk: the queue of halves that move bulk data, behind all small messages. */
#ifndef TPROXY_BULK_H
#define TPROXY_BULK_H

#include <stdbool.h>

struct event;
struct half;
struct handoff;
struct session_env;

struct bulk {
	struct session_env *env; /* has the queue, session_env::bulk */
	struct handoff *handoff;
	struct event *turn; /* runs some of the queue, after all other ready events */
};

/* Makes the event. Returns 0 or -ENOMEM. After a failure bulk_finish() may be called too. */
int bulk_init(struct bulk *bulk, struct session_env *env, struct handoff *handoff);
void bulk_finish(struct bulk *bulk);

/*
 * Queues a half that is ready to move bulk data. It runs after all small messages that are ready
 * now, and after the halves that were queued before it, unless its session is handed to the partner
 * (handoff.h). Returns false if the half is not queued and must run now: its session is the only
 * one, or there was no memory for the event.
 */
bool bulk_queue(struct bulk *bulk, struct half *h);

#endif
