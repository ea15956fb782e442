/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Acknowledgements that are owed to clients. A client has sent data and waits for an answer. Its
 * kernel may hold back more data until the first is acknowledged (Nagle's algorithm). On loopback
 * that includes data that would fill a segment elsewhere. Once there was an answer, the kernel on
 * our side delays the acknowledgement by 40 ms. Most answers come soon and carry it. If no answer
 * has come before the thread sleeps, or after 1 ms if it does not sleep, the acknowledgement is
 * sent alone.
 *
 * A queue belongs to one thread.
 */
#ifndef TPROXY_ACK_H
#define TPROXY_ACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* One for each client. Zeroed at first. */
struct ack {
	LIST_ENTRY(ack) entry; /* ack_queue::owed; le_prev is NULL: it is not on it */
};

struct ack_queue {
	LIST_HEAD(, ack) owed;
	uint32_t n;
	uint64_t since_ns; /* when the queue became non-empty */
	int (*fd_of)(const struct ack *ack);
};

/* fd_of returns the socket of a client. */
void ack_queue_init(struct ack_queue *queue, int (*fd_of)(const struct ack *ack));

/* An acknowledgement is owed from now on; does nothing if it is owed already. */
void ack_owe(struct ack_queue *queue, struct ack *ack);
/* No acknowledgement is owed any more, as after an answer. */
void ack_forget(struct ack_queue *queue, struct ack *ack);
/* Sends all that are owed, if all is true or the oldest is owed for 1 ms. */
void ack_send(struct ack_queue *queue, bool all);

#endif
