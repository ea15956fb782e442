// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See watch_join.h. A connect() is two events: the decision, which knows the process and not the
 * source, and the SYN, which knows the source. Both are usually in the same pass over the ring, so
 * a connection waits for its SYN until the next pass has ended.
 *
 * One connect() may be decided twice: while a loader replaces a cgroup by one of its ancestors, the
 * program may be attached to both. The second decision replaces the first one, unless it only says
 * that the first one has refused.
 *
 * A connection that begins after the rings are opened and before the connections of the maps are
 * read is found in both. Its events count.
 *
 * The end of an unknown connection is ignored: it began before the watch, or its first event was
 * lost, which the kernel half has counted.
 */
#include "watch_join.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "util.h"

#define BUCKETS	  16384 /* a power of 2 */
#define CONNS_MAX (1 << 20)

struct entry {
	struct watch_conn conn; /* the first member */
	struct entry *next;	/* in its bucket */
	uint64_t
		listed_ns; /* read from the maps at this time, with the rings open; 0: it was not */
	bool pending, refused;
	uint8_t passes; /* since it began to wait */
	TAILQ_ENTRY(entry) waiting;
};

struct watch_join {
	struct watch_join_calls calls;
	struct entry *buckets[BUCKETS];
	TAILQ_HEAD(, entry) waiting; /* for the SYN; refused ones too, until the end of the pass */
	size_t n;
	uint64_t forgotten;
};

struct watch_join *watch_join_new(const struct watch_join_calls *calls)
{
	struct watch_join *join = calloc(1, sizeof(*join));

	if (!join)
		return NULL;
	join->calls = *calls;
	TAILQ_INIT(&join->waiting);
	return join;
}

void watch_join_free(struct watch_join *join)
{
	struct entry *entry, *next;
	size_t i;

	for (i = 0; join && i < BUCKETS; i++) {
		for (entry = join->buckets[i]; entry; entry = next) {
			next = entry->next;
			free(entry);
		}
	}
	free(join);
}

/* Cookies are consecutive for each CPU, in blocks. */
static struct entry **bucket_of(const struct watch_join *join, uint64_t id)
{
	return (struct entry **)&join->buckets[(id ^ id >> 14) & (BUCKETS - 1)];
}

static struct entry *find(const struct watch_join *join, uint64_t id)
{
	struct entry *entry = *bucket_of(join, id);

	while (entry && entry->conn.row.id != id)
		entry = entry->next;
	return entry;
}

static struct entry *add(struct watch_join *join, uint64_t id)
{
	struct entry **bucket = bucket_of(join, id), *entry = NULL;

	if (join->n < CONNS_MAX)
		entry = calloc(1, sizeof(*entry));
	if (!entry) {
		join->forgotten++;
		return NULL;
	}
	entry->conn.row.id = id;
	entry->next = *bucket;
	*bucket = entry;
	join->n++;
	return entry;
}

static void stop_waiting(struct watch_join *join, struct entry *entry)
{
	if (entry->pending)
		TAILQ_REMOVE(&join->waiting, entry, waiting);
	entry->pending = false;
}

static void drop(struct watch_join *join, struct entry *entry)
{
	struct entry **at = bucket_of(join, entry->conn.row.id);

	stop_waiting(join, entry);
	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	join->n--;
	free(entry);
}

static void show(struct watch_join *join, struct entry *entry)
{
	if (entry->conn.shown)
		return;
	entry->conn.shown = true;
	join->calls.started(&entry->conn, join->calls.data);
}

static void finish(struct watch_join *join, struct entry *entry, const struct tproxy_event *event)
{
	struct tproxy_event end = *event;

	show(join, entry);
	if (entry->conn.sent)
		end.conn.flags |= TPROXY_OBSERVED_SENT;
	end.conn.started_ns = entry->conn.started_ns;
	join->calls.ended(&entry->conn, &end, join->calls.data);
	drop(join, entry);
}

/* Ends a connection for which no event has the final numbers. */
static void finish_at(struct watch_join *join, struct entry *entry, uint64_t time_ns)
{
	const struct tproxy_event event = {
		.cookie = entry->conn.row.id,
		.ended_ns = time_ns,
		.state = entry->conn.sent ? TPROXY_EVENT_UNSEEN : TPROXY_EVENT_NOT_SENT,
		.rtt_min_us = UINT32_MAX,
	};

	finish(join, entry, &event);
}

static void set_process(struct watch_conn *conn, const struct tproxy_observed *from)
{
	conn->started_ns = from->started_ns;
	conn->rule_counter = from->rule_counter;
	conn->row.cgroup_id = from->cgroup_id;
	conn->row.netns_cookie = from->netns_cookie;
	conn->row.pid = from->pid;
	conn->row.uid = from->uid;
	memcpy(conn->row.comm, from->comm, sizeof(from->comm));
}

static void wait_for_syn(struct watch_join *join, struct entry *entry)
{
	if (!entry->pending)
		TAILQ_INSERT_TAIL(&join->waiting, entry, waiting);
	entry->pending = true;
	entry->passes = 0;
}

static void on_connect(struct watch_join *join, const struct tproxy_watch_start *event)
{
	struct entry *entry = find(join, event->head.cookie);
	const bool again =
		entry && !entry->conn.sent &&
		memcmp(&entry->conn.row.dst, &event->conn.dst, sizeof(event->conn.dst)) == 0;

	if (entry && event->head.time_ns <= entry->listed_ns) {
		drop(join, entry);
		entry = NULL;
	} else if (entry && entry->refused) {
		if (again && event->head.reason == TPROXY_WATCH_BY_OTHER)
			return;
		drop(join, entry);
		entry = NULL;
	} else if (entry && (!again || entry->conn.shown)) {
		/* The socket connects again, after an attempt that has failed. */
		finish_at(join, entry, event->head.time_ns);
		entry = NULL;
	}
	if (!entry)
		entry = add(join, event->head.cookie);
	if (!entry)
		return;
	set_process(&entry->conn, &event->conn);
	entry->conn.row.dst = event->conn.dst;
	entry->conn.row.verdict = (enum conn_verdict)event->head.verdict;
	entry->conn.reason = event->head.reason;
	entry->conn.error = (int)event->head.error;
	entry->refused = event->head.verdict == TPROXY_VERDICT_REFUSED;
	wait_for_syn(join, entry);
	if (entry->refused)
		show(join, entry);
}

static void on_sent(struct watch_join *join, const struct tproxy_watch_sent *event)
{
	struct entry *entry = find(join, event->head.cookie);
	struct watch_conn *conn;

	if (!entry || entry->refused || entry->conn.sent)
		return;
	conn = &entry->conn;
	conn->sent = true;
	conn->row.src = event->src;
	conn->moved = conn->row.verdict != CONN_REDIRECTED &&
		      memcmp(&conn->row.dst, &event->dst, sizeof(event->dst)) != 0;
	conn->sent_to = event->dst;
	stop_waiting(join, entry);
	show(join, entry);
}

static void on_accepted(struct watch_join *join, const struct tproxy_watch_start *event)
{
	struct entry *entry = find(join, event->head.cookie);

	if (!entry)
		entry = add(join, event->head.cookie);
	if (!entry)
		return;
	set_process(&entry->conn, &event->conn);
	entry->conn.row.src = event->conn.dst;
	entry->conn.row.dst = event->conn.src;
	entry->conn.row.verdict = CONN_DIRECT;
	entry->conn.inbound = true;
	entry->conn.sent = true;
	show(join, entry);
}

static void on_ended(struct watch_join *join, const struct tproxy_watch_end *end)
{
	struct entry *entry = find(join, end->head.cookie);
	struct tproxy_event event = end->event;

	if (!entry)
		return;
	if (!entry->conn.sent) { /* the event of the SYN was lost */
		entry->conn.row.src = event.conn.src;
		entry->conn.sent = event.state != TPROXY_EVENT_NOT_SENT;
	}
	/* The kernel half has subtracted the SYN of this side, and this side has sent none. */
	if (entry->conn.inbound && end->head.flags & TPROXY_WATCH_COUNTED)
		event.bytes_up++;
	finish(join, entry, &event);
}

static void on_released(struct watch_join *join, const struct tproxy_watch_head *event)
{
	struct entry *entry = find(join, event->cookie);

	if (entry && !entry->refused)
		finish_at(join, entry, event->time_ns);
}

void watch_join_event(struct watch_join *join, const struct tproxy_watch_head *event, size_t size)
{
	switch (event->kind) {
	case TPROXY_WATCH_CONNECT:
		if (size == sizeof(struct tproxy_watch_start))
			on_connect(join, (const void *)event);
		break;
	case TPROXY_WATCH_SENT:
		if (size == sizeof(struct tproxy_watch_sent))
			on_sent(join, (const void *)event);
		break;
	case TPROXY_WATCH_ACCEPTED:
		if (size == sizeof(struct tproxy_watch_start))
			on_accepted(join, (const void *)event);
		break;
	case TPROXY_WATCH_ENDED:
		if (size == sizeof(struct tproxy_watch_end))
			on_ended(join, (const void *)event);
		break;
	case TPROXY_WATCH_RELEASED:
		on_released(join, event);
		break;
	}
}

void watch_join_add(struct watch_join *join, const struct conn_row *row, uint64_t started_ns,
		    uint64_t watched_ns)
{
	struct entry *entry = find(join, row->id);

	if (entry && watched_ns)
		entry->conn.unsure = false;
	if (!entry)
		entry = add(join, row->id);
	if (!entry || entry->conn.shown)
		return;
	entry->conn.row = *row;
	entry->conn.started_ns = started_ns;
	entry->conn.earlier = entry->conn.sent = entry->conn.shown = true;
	entry->conn.unsure = !watched_ns;
	entry->listed_ns = watched_ns;
}

void watch_join_drop_gone(struct watch_join *join)
{
	struct entry *entry, *next;
	size_t i;

	for (i = 0; i < BUCKETS; i++) {
		for (entry = join->buckets[i]; entry; entry = next) {
			next = entry->next;
			if (entry->conn.unsure)
				drop(join, entry);
		}
	}
}

void watch_join_settle(struct watch_join *join)
{
	struct entry *entry, *next;

	for (entry = TAILQ_FIRST(&join->waiting); entry; entry = next) {
		next = TAILQ_NEXT(entry, waiting);
		if (entry->refused) {
			drop(join, entry);
			continue;
		}
		if (entry->passes++ == 0)
			continue;
		stop_waiting(join, entry);
		show(join, entry);
	}
}

struct watch_conn *watch_join_find(const struct watch_join *join, uint64_t id)
{
	struct entry *entry = find(join, id);

	return entry ? &entry->conn : NULL;
}

size_t watch_join_count(const struct watch_join *join, watch_join_counts_fn counts, void *data)
{
	const struct entry *entry;
	size_t n = 0, i;

	for (i = 0; i < BUCKETS; i++) {
		for (entry = join->buckets[i]; entry; entry = entry->next)
			n += counts(&entry->conn, data);
	}
	return n;
}

uint64_t watch_join_forgotten(const struct watch_join *join)
{
	return join->forgotten;
}
