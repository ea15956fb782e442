// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl run: the observed connections, see run_events.h. */
#include "run_events.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conn_row.h"
#include "escape.h"
#include "host/address.h"
#include "load/instance.h"
#include "log.h"
#include "observed_end.h"
#include "observed_entries.h"
#include "parse.h"
#include "state/counters.h"
#include "tproxy_abi.h"

#define NS_PER_MS 1000000
#define PAUSE_MS  20

static int on_sample(void *ctx, void *data, size_t size)
{
	struct run_events *events = ctx;

	if (size == sizeof(struct tproxy_event))
		events->fn(data, events->data);
	return 0;
}

int run_events_open(const struct instance *instance,
		    void (*fn)(const struct tproxy_event *event, void *data), void *data,
		    struct run_events *events)
{
	*events = (struct run_events){ .instance = instance, .fn = fn, .data = data };
	events->ring = ring_buffer__new(instance->events_fd, on_sample, events, NULL);
	if (!events->ring) {
		int r = -errno;

		log_err("run: cannot read the observed connections: %s", strerror(-r));
		return r;
	}
	return 0;
}

void run_events_close(struct run_events *events)
{
	ring_buffer__free(events->ring);
	events->ring = NULL;
}

int run_events_fd(const struct run_events *events)
{
	return events->ring && !events->rests ? ring_buffer__epoll_fd(events->ring) : -1;
}

int run_events_timeout(const struct run_events *events)
{
	return events->rests ? PAUSE_MS : -1;
}

void run_events_read(struct run_events *events)
{
	if (events->ring)
		events->rests = ring_buffer__consume(events->ring) > 0;
}

struct open_connections {
	void (*fn)(const struct tproxy_observed *conn, void *data);
	void *data; /* of fn */
	uint64_t n;
};

static int on_open(uint64_t cookie, const struct tproxy_observed *conn, void *data)
{
	struct open_connections *open = data;

	(void)cookie;
	open->n++;
	if (open->fn)
		open->fn(conn, open->data);
	return 0;
}

uint64_t run_events_open_connections(const struct run_events *events,
				     void (*fn)(const struct tproxy_observed *conn, void *data),
				     void *data)
{
	const struct instance *instance = events->instance;
	struct open_connections open = { .fn = fn, .data = data };

	observed_entries_walk(instance->slots_fd, instance->observed_fd, on_open, &open);
	return open.n;
}

uint64_t run_events_lost(const struct run_events *events)
{
	uint64_t counts[_TPROXY_STAT_MAX];

	if (counters_read_map(events->instance->stats_fd, counts) < 0)
		return 0;
	return counts[TPROXY_STAT_OBSERVE_FULL] + counts[TPROXY_STAT_EVENTS_LOST];
}

void run_events_log(const struct tproxy_event *event, void *data)
{
	const struct tproxy_observed *conn = &event->conn;
	const struct observed_end end = observed_end(event);
	char dst[ADDRESS_ENDPOINT_LEN], command[ESCAPE_LEN(TPROXY_COMM_LEN)];
	char up[FORMAT_BYTES_LEN], down[FORMAT_BYTES_LEN], time[FORMAT_DURATION_LEN];
	char bytes[64] = "", why[80] = "", id[CONN_ROW_ID_LEN];

	escape_text(conn->comm, strnlen(conn->comm, sizeof(conn->comm)), command, sizeof(command));
	if (end.measured)
		snprintf(bytes, sizeof(bytes), "up %s, down %s, ",
			 format_bytes(event->bytes_up, up), format_bytes(event->bytes_down, down));
	if (end.error)
		snprintf(why, sizeof(why), " (%s)", strerror(end.error));
	log_info("observed %s: %s%s, %s%s; pid %u (%s), uid %u, id %s",
		 address_format_endpoint(&conn->dst, dst), bytes,
		 format_duration_ms((event->ended_ns - conn->started_ns) / NS_PER_MS, time),
		 end.reason, why, conn->pid, command, conn->uid, conn_row_id(event->cookie, id));
}
