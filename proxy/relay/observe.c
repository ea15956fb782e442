// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See observe.h. The reader waits until the ring is readable, which costs nothing while no
 * connection is observed. Then it polls every POLL_MS, so that a busy host does not pay for a
 * wakeup with each connection. The kernel half wakes only a reader that waits. After IDLE_POLLS
 * polls without an event the reader waits again. It tests for events before it sleeps, so it misses
 * none.
 *
 * A relay that no longer serves new connections, because it drains or another relay has replaced
 * it, releases the ring. Without a reader the ring keeps events for the next reader.
 */
#include "observe.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <string.h>

#include "kernel/events.h"
#include "log.h"
#include "relay.h"
#include "report/connlog.h"
#include "report/observed.h"

#define POLL_MS	   10
#define IDLE_POLLS 100
/*
 * Limit of events in one turn of the event loop: a few milliseconds. During the pause that follows,
 * the thread of a log file writes these lines: its buffer holds some 600 of them.
 */
#define EVENTS_MAX 256
/* Limit of turns when the relay stops being the reader. They are enough for a full ring. */
#define LAST_TURNS 32

static void print_event(const struct tproxy_event *event, void *data)
{
	const struct relay *relay = data;
	struct tproxy_rule_text rule;

	observed_print(event,
		       events_rule(relay->observe.events, &event->conn, &rule) < 0 ? NULL : &rule);
}

static int read_events(struct relay *relay)
{
	return events_read(relay->observe.events, EVENTS_MAX, print_event, relay);
}

static void poll_again(struct observe *observe, int n)
{
	static const struct timeval soon = { .tv_usec = 1000 };
	static const struct timeval interval = { .tv_usec = POLL_MS * 1000 };

	observe->idle = n > 0 ? 0 : observe->idle + 1;
	if (observe->idle > IDLE_POLLS)
		event_add(observe->readable, NULL);
	else
		event_add(observe->poll, n >= EVENTS_MAX ? &soon : &interval);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;

	poll_again(&relay->observe, read_events(relay));
}

/* The ring has events again after an idle time. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct relay *relay = arg;

	relay->observe.idle = 0;
	on_poll(fd, what, arg);
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
		event_new(relay->base, events_fd(observe->events), EV_READ, on_readable, relay);
	observe->poll = evtimer_new(relay->base, on_poll, relay);
	if (!observe->readable || !observe->poll) {
		stop(observe);
		return;
	}
	log_debug("reading the observed connections");
	on_readable(-1, 0, relay);
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
	int turns = LAST_TURNS;

	if (!relay->observe.events)
		return;
	while (turns-- > 0 && read_events(relay) >= EVENTS_MAX)
		;
	stop(&relay->observe);
}
