// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See ack.h. */
#include "ack.h"

#include <stddef.h>

#include "monotonic.h"
#include "upstream/sock.h"

/* How long a client may wait for an acknowledgement while its thread is busy. */
#define OWED_NS 1000000

void ack_queue_init(struct ack_queue *queue)
{
	*queue = (struct ack_queue){};
	LIST_INIT(&queue->owed);
}

void ack_owe(struct ack_queue *queue, struct ack *ack)
{
	if (ack->owed)
		return;
	if (queue->n++ == 0)
		queue->since_ns = monotonic_kernel_ns();
	LIST_INSERT_HEAD(&queue->owed, ack, entry);
	ack->owed = true;
}

void ack_forget(struct ack_queue *queue, struct ack *ack)
{
	if (!ack->owed)
		return;
	queue->n--;
	LIST_REMOVE(ack, entry);
	ack->owed = false;
}

void ack_send(struct ack_queue *queue, bool all)
{
	struct ack *ack;

	if (!all && monotonic_kernel_ns() - queue->since_ns < OWED_NS)
		return;
	while ((ack = LIST_FIRST(&queue->owed))) {
		sock_set_quickack(ack->fd, true);
		ack_forget(queue, ack);
	}
}
