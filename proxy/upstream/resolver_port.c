// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The ports of a resolver, see resolver.h: questions, and their answers in the thread that asked.
 * All functions run in that thread. A question is on the list of its name until it is answered, and
 * then on that of its port.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "monotonic.h"
#include "resolved.h"
#include "resolver.h"
#include "util.h"

static void on_answers(evutil_socket_t fd, short what, void *arg)
{
	struct resolver_port *port = arg;
	struct resolver_question *q;
	eventfd_t value;

	eventfd_read(port->wake_fd, &value);
	for (;;) {
		pthread_mutex_lock(&port->resolver->lock);
		q = TAILQ_FIRST(&port->answers);
		if (q)
			TAILQ_REMOVE(&port->answers, q, entry);
		pthread_mutex_unlock(&port->resolver->lock);
		if (!q)
			return;
		q->fn(q->data, q->error, q->addresses, q->n);
		free(q);
	}
}

struct resolver_port *resolver_port_new(struct resolver *r, struct event_base *base)
{
	struct resolver_port *port = calloc(1, sizeof(*port));

	if (!port)
		return NULL;
	port->resolver = r;
	TAILQ_INIT(&port->answers);
	port->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (port->wake_fd >= 0)
		port->event =
			event_new(base, port->wake_fd, EV_READ | EV_PERSIST, on_answers, port);
	if (!port->event || event_add(port->event, NULL) < 0) {
		if (port->event)
			event_free(port->event);
		util_closep(&port->wake_fd);
		free(port);
		return NULL;
	}
	pthread_mutex_lock(&r->lock);
	LIST_INSERT_HEAD(&r->ports, port, port_entry);
	pthread_mutex_unlock(&r->lock);
	return port;
}

/* Frees the questions of a port that are on a list. */
static void free_questions(struct question_list *list, const struct resolver_port *port)
{
	struct resolver_question *q, *next;

	for (q = TAILQ_FIRST(list); q; q = next) {
		next = TAILQ_NEXT(q, entry);
		if (q->port != port)
			continue;
		TAILQ_REMOVE(list, q, entry);
		free(q);
	}
}

void resolver_port_free(struct resolver_port *port)
{
	struct resolver *r;
	struct resolved *e;
	uint32_t i;

	if (!port)
		return;
	r = port->resolver;
	pthread_mutex_lock(&r->lock);
	LIST_REMOVE(port, port_entry);
	free_questions(&port->answers, port);
	for (i = 0; i < RESOLVER_BUCKETS; i++) {
		LIST_FOREACH (e, &r->buckets[i], bucket_entry)
			free_questions(&e->questions, port);
	}
	pthread_mutex_unlock(&r->lock);
	event_free(port->event);
	close(port->wake_fd);
	free(port);
}

struct resolver_question *resolver_ask(struct resolver_port *port, const char *host, int family,
				       resolver_answer_fn fn, void *data)
{
	struct resolver_question *q = calloc(1, sizeof(*q));
	struct resolver *r = port->resolver;
	struct resolved *e;

	if (!q)
		return NULL;
	q->port = port;
	q->family = family;
	q->fn = fn;
	q->data = data;
	pthread_mutex_lock(&r->lock);
	e = resolved_of(r, host);
	if (!e) {
		free(TAKE_PTR(q));
	} else if ((e->added && e->n && !e->settled) ||
		   (e->answered && monotonic_coarse_ms() < e->due_ms)) {
		resolved_answer(e, q);
	} else if (!resolved_answer_by_part(e, q)) {
		q->list = &e->questions;
		TAILQ_INSERT_TAIL(q->list, q, entry);
		resolved_want(r, e);
	}
	pthread_mutex_unlock(&r->lock);
	return q;
}

void resolver_cancel(struct resolver_question *q)
{
	struct resolver *r;

	if (!q)
		return;
	r = q->port->resolver;
	pthread_mutex_lock(&r->lock);
	TAILQ_REMOVE(q->list, q, entry);
	pthread_mutex_unlock(&r->lock);
	free(q);
}
