/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Turns of bulk: a worker's queue of halves that move bulk data, behind all small messages. */
#ifndef TPROXY_BULK_H
#define TPROXY_BULK_H

#include <stdbool.h>

struct half;
struct worker;

/* Makes worker::bulk_turn. Returns 0 or -ENOMEM. The worker frees the event. */
int bulk_init(struct worker *worker);

/*
 * Queues a half that is ready to move bulk data. It runs after all small messages that are ready
 * now, and after the halves that were queued before it. Returns false if the half is not queued and
 * must run now: its session is the only one, or there was no memory for the queue's event.
 */
bool bulk_queue(struct worker *worker, struct half *h);
/* Takes h off the queue, if it is queued: the half has ended, or its turn has come. */
void bulk_unqueue(struct worker *worker, struct half *h);

#endif
