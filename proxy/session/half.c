// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See half.h. */
#include "half.h"

#include <errno.h>
#include <event2/event.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

/*
 * How long a half waits when its destination is writable but takes no data, as when TCP is out of
 * memory (tcp_mem, tcp(7)). Polling it would spin.
 */
#define BACKOFF_MS 10

static const struct timeval backoff = { .tv_usec = BACKOFF_MS * 1000 };

void half_queue_init(struct half_queue *queue)
{
	TAILQ_INIT(&queue->halves);
	queue->n = 0;
}

void half_queue_push(struct half_queue *queue, struct half *h)
{
	TAILQ_INSERT_TAIL(&queue->halves, h, queue_entry);
	queue->n++;
	h->queued = true;
}

void half_queue_remove(struct half_queue *queue, struct half *h)
{
	if (!h->queued)
		return;
	TAILQ_REMOVE(&queue->halves, h, queue_entry);
	queue->n--;
	h->queued = false;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct half *h = arg;

	half_on_ready(h, /* again= */ true);
}

static void on_backoff_over(evutil_socket_t fd, short what, void *arg)
{
	struct half *h = arg;

	half_stop(h);
	half_on_ready(h, /* again= */ false);
}

void half_init(struct half *h, struct event_base *base, int src_fd, int dst_fd)
{
	*h = (struct half){};
	pump_init(&h->pump, src_fd, dst_fd);
	event_assign(&h->event, base, src_fd, EV_READ | EV_PERSIST, on_event, h);
}

void half_stop(struct half *h)
{
	if (h->reading || h->writing)
		event_del(&h->event);
	h->reading = h->writing = false;
}

void half_finish(struct half *h, struct pump_env *env)
{
	half_stop(h);
	pump_finish(&h->pump, env);
}

/* Waits for the events of the mask what on fd, and for no others. */
static int wait_for(struct half *h, int fd, short what)
{
	half_stop(h);
	event_assign(&h->event, event_get_base(&h->event), fd, what | EV_PERSIST, on_event, h);
	return event_add(&h->event, NULL) < 0 ? -ENOMEM : 0;
}

int half_wait_read(struct half *h)
{
	if (h->reading)
		return 0;
	if (wait_for(h, h->pump.src_fd, EV_READ) < 0)
		return -ENOMEM;
	h->reading = true;
	return 0;
}

int half_wait_write(struct half *h)
{
	if (h->writing)
		return 0;
	if (wait_for(h, h->pump.dst_fd, EV_WRITE) < 0)
		return -ENOMEM;
	h->writing = true;
	return 0;
}

/* Waits for a timer of BACKOFF_MS instead of the destination. */
int half_back_off(struct half *h)
{
	half_stop(h);
	evtimer_assign(&h->event, event_get_base(&h->event), on_backoff_over, h);
	if (event_add(&h->event, &backoff) < 0)
		return -ENOMEM;
	h->writing = true;
	return 0;
}

enum half_result half_run(struct half *h, struct pump_env *env)
{
	uint64_t bytes = h->pump.bytes;
	bool writable = h->writing; /* by an event */
	int r = 0;

	switch (pump_run(&h->pump, env)) {
	case PUMP_WAIT_READ:
		r = half_wait_read(h);
		break;
	case PUMP_WAIT_WRITE:
		if (writable && h->pump.bytes == bytes)
			r = half_back_off(h);
		else
			r = half_wait_write(h);
		break;
	case PUMP_EOF:
		h->done = true;
		half_stop(h);
		return HALF_EOF;
	case PUMP_READ_ERROR:
		return HALF_SOURCE_RESET;
	case PUMP_WRITE_ERROR:
		return HALF_DESTINATION_RESET;
	case PUMP_NO_MEMORY:
		return HALF_NO_MEMORY;
	}
	return r < 0 ? HALF_NO_MEMORY : HALF_WAITS;
}

void half_flush(struct half *h, struct pump_env *env)
{
	uint64_t until, bytes;
	int waiting = 0;

	ioctl(h->pump.src_fd, SIOCINQ, &waiting);
	until = h->pump.bytes + pump_held(&h->pump) + (uint64_t)waiting;
	do {
		bytes = h->pump.bytes;
	} while (!h->done && pump_run(&h->pump, env) == PUMP_WAIT_READ && h->pump.bytes != bytes &&
		 h->pump.bytes < until);
}

void half_detach(struct half *h)
{
	if (h->reading || h->writing)
		event_del(&h->event);
}

int half_attach(struct half *h, struct event_base *base)
{
	bool backs_off = event_get_fd(&h->event) < 0;

	event_base_set(base, &h->event);
	if ((h->reading || h->writing) && event_add(&h->event, backs_off ? &backoff : NULL) < 0)
		return -ENOMEM;
	return 0;
}
