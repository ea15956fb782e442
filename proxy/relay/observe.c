// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See observe.h. The reader waits until the ring is readable, which costs nothing while no
 * connection is observed. Then it reads every POLL_MS, so that a busy host does not pay for a
 * wakeup with each connection. When it finds nothing, it waits again.
 *
 * No event stays unread: epoll reports the descriptor as readable while the ring has an event, also
 * if the event came before the reader began to wait. The kernel wakes the waiting reader if it adds
 * an event to a ring that has been read to the end.
 *
 * Events stay in the ring while the log has no room for their lines, so a slow disk or log reader
 * loses none until the ring is full. A relay that no longer serves new connections, because it
 * drains or another relay has replaced it, releases the ring. Without a reader the ring keeps
 * events for the next reader.
 */
#include "observe.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "kernel/events.h"
#include "log.h"
#include "relay.h"
#include "report/connlog.h"
#include "report/observed.h"

#define POLL_MS 20
/* Limit of events in one turn of the event loop: some two milliseconds. */
#define EVENTS_MAX 256
/*
 * When the relay stops being the reader: limit of turns, and the pause after a turn that has filled
 * the log. A full ring takes 26 turns, and some more for a log that is a file.
 */
#define LAST_TURNS    64
#define LAST_PAUSE_NS 1000000

static bool print_event(const struct tproxy_event *event, void *data)
{
	const struct relay *relay = data;

	observed_print(event, events_rule(relay->observe.events, &event->conn));
	return connlog_has_room();
}

/* Returns true if the log has no room for the events that are left, if any. */
static bool read_events(struct relay *relay, int *ret_n)
{
	*ret_n = 0;
	if (connlog_has_room())
		*ret_n = events_read(relay->observe.events, EVENTS_MAX, print_event, relay);
	return !connlog_has_room();
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval soon = { .tv_usec = 1000 };
	static const struct timeval interval = { .tv_usec = POLL_MS * 1000 };
	struct relay *relay = arg;
	int n;

	if (read_events(relay, &n))
		event_add(relay->observe.poll, &interval);
	else if (n > 0)
		event_add(relay->observe.poll, n >= EVENTS_MAX ? &soon : &interval);
	else
		event_add(relay->observe.readable, NULL);
}

static void stop(struct observe *observe)
{
	if (observe->readable)
		event_free(observe->readable);
	if (observe->poll)
		event_free(observe->poll);
	events_close(observe->events);
	*observe = (struct observe){};
}

/* Tried every second. */
static void log_not_started(struct relay *relay, int r)
{
	static struct log_limit limit;

	if (r != -EBUSY) {
		log_limited(&limit, LOG_LEVEL_WARNING,
			    "cannot read '%s/map_events': %s, observed connections are not logged",
			    relay->options.pin_dir, strerror(-r));
		return;
	}
	if (!relay->observe.waits)
		log_info(
			"another process logs the observed connections of '%s'; this relay does so when that process ends",
			relay->options.pin_dir);
	relay->observe.waits = true;
}

static void start(struct relay *relay)
{
	struct observe *observe = &relay->observe;
	int r;

	r = events_open(relay->options.pin_dir, &observe->events);
	if (r < 0) {
		log_not_started(relay, r);
		return;
	}
	observe->waits = false;
	observe->config_id = relay->reg.config_id;
	observe->readable =
		event_new(relay->base, events_fd(observe->events), EV_READ, on_poll, relay);
	observe->poll = evtimer_new(relay->base, on_poll, relay);
	if (!observe->readable || !observe->poll) {
		stop(observe);
		return;
	}
	log_debug("reading the observed connections");
	on_poll(-1, 0, relay);
}

static void report_lost(struct observe *observe)
{
	static struct log_limit limit;
	uint64_t lost = events_take_lost(observe->events);

	if (lost)
		log_limited(
			&limit, LOG_LEVEL_WARNING,
			"%" PRIu64
			" observed connections were not reported: too many at a time, or no relay has read them",
			lost);
}

void observe_check(struct relay *relay, bool serves)
{
	struct observe *observe = &relay->observe;
	const bool wanted = serves && connlog_wanted() != CONNLOG_NONE;

	/* Other maps are pinned if the programs were unloaded and loaded. */
	if (observe->events && (!wanted || observe->config_id != relay->reg.config_id))
		observe_end(relay);
	if (!observe->events && wanted)
		start(relay);
	if (observe->events)
		report_lost(observe);
}

void observe_end(struct relay *relay)
{
	const struct timespec pause = { .tv_nsec = LAST_PAUSE_NS };
	int turns = LAST_TURNS, n;
	bool full;

	if (!relay->observe.events)
		return;
	do {
		full = read_events(relay, &n);
		if (full)
			nanosleep(&pause, NULL);
	} while (--turns > 0 && (full || n >= EVENTS_MAX));
	stop(&relay->observe);
}
