// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See ack.h. */
#include "ack.h"

#include <stddef.h>

#include "monotonic.h"
#include "upstream/sock.h"

/* How long a client may wait for an acknowledgement while its thread is busy. */
#define OWED_NS 1000000

void ack_queue_init(struct ack_queue *queue, int (*fd_of)(const struct ack *ack))
{
	*queue = (struct ack_queue){ .fd_of = fd_of };
	LIST_INIT(&queue->owed);
}

void ack_owe(struct ack_queue *queue, struct ack *ack)
{
	if (ack->entry.le_prev)
		return;
	if (queue->n++ == 0)
		queue->since_ns = monotonic_kernel_ns();
	LIST_INSERT_HEAD(&queue->owed, ack, entry);
}

void ack_forget(struct ack_queue *queue, struct ack *ack)
{
	if (!ack->entry.le_prev)
		return;
	queue->n--;
	LIST_REMOVE(ack, entry);
	ack->entry.le_prev = NULL;
}

void ack_send(struct ack_queue *queue, bool all)
{
	struct ack *ack;

	if (!all && monotonic_kernel_ns() - queue->since_ns < OWED_NS)
		return;
	while ((ack = LIST_FIRST(&queue->owed))) {
		sock_set_quickack(queue->fd_of(ack), true);
		ack_forget(queue, ack);
	}
}
