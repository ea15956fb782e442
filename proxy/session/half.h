/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A half: one direction of a session, from its source to its destination. It waits either to read
 * or to write, never for both: this is the back-pressure. Events are level-triggered, so a half may
 * stop early and continues with the next event.
 *
 * A half knows no session. It calls half_on_ready() when it may continue, and half_run() says how
 * far it came. Its owner decides what that means, and is the only one that frees anything.
 */
#ifndef TPROXY_HALF_H
#define TPROXY_HALF_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "pump.h"

struct event_base;

struct half {
	struct pump pump;
	struct event event; /* what h waits for; assigned again when that changes */
	bool reading;	    /* event is added: the source is readable */
	bool writing;	    /* event is added: the destination is writable, or a timer */
	bool done;	    /* the source's FIN has been read, and all bytes before it written */
	bool queued;	    /* on a half_queue */
	bool from_server;   /* session::s2c; set by the owner, not used here */
	TAILQ_ENTRY(half) queue_entry;
};

/* Halves that wait for a turn of bulk. */
struct half_queue {
	TAILQ_HEAD(, half) halves;
	uint32_t n;
};

void half_queue_init(struct half_queue *queue);
/* Puts h at the tail. h is on no queue. */
void half_queue_push(struct half_queue *queue, struct half *h);
/* Takes h off the queue, if it is queued. */
void half_queue_remove(struct half_queue *queue, struct half *h);

enum half_result {
	HALF_WAITS,
	HALF_EOF,	   /* done; the owner passes the FIN on */
	HALF_SOURCE_RESET, /* all that the source sent is written */
	HALF_DESTINATION_RESET,
	HALF_NO_MEMORY,
};

/*
 * h may continue. The owner (session.c) defines this function. It runs in the thread of h's base
 * and may free h. again: the event is reported again until h runs, so h may run later. Otherwise h
 * has to run now.
 */
void half_on_ready(struct half *h, bool again);

void half_init(struct half *h, struct event_base *base, int src_fd, int dst_fd);
/* Frees what h holds; the descriptors stay open. */
void half_finish(struct half *h, struct pump_env *env);

/* Moves the data that can be moved now, and waits for more unless the result says otherwise. */
enum half_result half_run(struct half *h, struct pump_env *env);

/* Waits for data of the source. Returns 0 or -ENOMEM. */
int half_wait_read(struct half *h);
/*
 * For an owner that uses the sockets itself, before the first half_run(). half_wait_write() waits
 * until the destination is writable, half_back_off() for a short time: when it was writable and
 * took nothing. half_on_ready() is called after both, and after half_wait_read(). They return 0 or
 * -ENOMEM. Each replaces the wait before it, and half_stop() ends any wait.
 */
int half_wait_write(struct half *h);
int half_back_off(struct half *h);
void half_stop(struct half *h);

/*
 * The source has been reset. Data that it sent before, and that our kernel acknowledged, may still
 * be unread: writes as much of it as the destination takes. Only what is there now is moved: if
 * another error was taken for a reset, more data may come without end.
 */
void half_flush(struct half *h, struct pump_env *env);

/*
 * Takes the event of h off its base; half_attach() adds it to another base if h waited for it, in
 * that base's thread. It returns 0 or -ENOMEM.
 */
void half_detach(struct half *h);
int half_attach(struct half *h, struct event_base *base);

#endif
