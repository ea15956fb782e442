// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See relay.h: the functions that main.c, reload.c, health.c and shutdown.c share. These files run
 * on the main thread's event base. None of the last three calls another: the state that they share,
 * such as relay::draining, is in struct relay.
 */
#include "relay.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdatomic.h>

#include "capacity.h"
#include "log.h"
#include "report/connlog.h"
#include "upstream/upstream.h"
#include "util.h"

int relay_own_event(struct relay *relay, struct event *event)
{
	if (!event)
		return -ENOMEM;
	assert(relay->n_events < ARRAY_SIZE(relay->events));
	relay->events[relay->n_events++] = event;
	return 0;
}

int relay_add_event(struct relay *relay, struct event *event, const struct timeval *timeout)
{
	int r = relay_own_event(relay, event);

	if (r < 0)
		return r;
	return event_add(event, timeout) < 0 ? -ENOMEM : 0;
}

void relay_set_log(const struct relay *relay)
{
	const struct options *options = &relay->options;

	log_set_level(options->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	connlog_init(options->connection_log);
}

void relay_set_limits(struct relay *relay)
{
	const struct options *options = &relay->options;
	const bool tls = relay->upstreams && upstreams_have_tls(relay->upstreams);

	atomic_store_explicit(&relay->shared.limit.max,
			      capacity_sessions(capacity_raise_nofile(), tls, options),
			      memory_order_relaxed);
	atomic_store_explicit(&relay->shared.sessions.per_cgroup.max, options->max_per_cgroup,
			      memory_order_relaxed);
}

struct worker_timeouts relay_timeouts(const struct relay *relay)
{
	const struct options *options = &relay->options;

	return (struct worker_timeouts){
		.connect_ms = options->connect_timeout_ms,
		.idle_ms = options->idle_timeout_ms,
		.half_closed_ms = options->half_closed_timeout_ms,
		.error_memory_ms = options->error_memory_ms,
		.keepalive_ms = options->keepalive_ms,
	};
}

uint32_t relay_sessions(const struct relay *relay)
{
	return atomic_load_explicit(&relay->shared.limit.sessions, memory_order_relaxed);
}

void relay_stop_workers(struct relay *relay)
{
	uint32_t i;

	for (i = 0; i < relay->n_workers; i++)
		worker_stop(&relay->workers[i]);
}
