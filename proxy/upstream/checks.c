// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See checks.h. A check is an attempt (attempt.c) as if the type of the upstream were `tcp`: the
 * protocol of a proxy would need a destination. So it ends after the PROXY header and TLS. A check
 * that still runs at the next tick, an interval later, has failed. If the upstream has more
 * addresses, the next one is tried then, and the upstream has failed when the last one has. The
 * first checks of a set are spread over their intervals.
 *
 * A check shows that a proxy accepts connections, and not that it serves them. So it is no success
 * of a proxy: it does not end a row of failed dials, and ends DOWN only after a check that failed.
 * A proxy that accepts and is silent stays DOWN between the trials of clients.
 */
#include "checks.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdio.h>
#include <stdlib.h>

#include "attempt.h"
#include "log.h"
#include "monotonic.h"
#include "request.h"
#include "resolver.h"
#include "tls.h"
#include "upstream.h"

struct check {
	struct upstream *upstream;
	/* For the attempts: conf, but of type tcp, and tls, borrowed from the upstream. */
	struct upstream server;
	struct attempt attempt;
	struct event tick;
	/* The index of the address that was tried first, and how many were tried. */
	uint32_t first_address, n_tried;
	bool has_failed; /* the last check has */
};

struct checks {
	struct dial_request request;
	struct upstreams *set;
	struct tls_home tls;
	size_t n;
	struct check list[UPSTREAMS_MAX];
};

static bool is_checked(const struct upstream *u)
{
	return u->conf.check_interval_ms > 0 && upstream_has_health(u);
}

/* Takes the next address that is to be tried. Returns false if there is none. */
static bool next_address(struct check *check, union upstream_addr *ret)
{
	union upstream_addr found[RESOLVER_ADDRESSES_MAX];
	const struct upstream *u = check->upstream;
	size_t n;

	if (check->n_tried == 0)
		check->first_address = upstream_good_address(u);
	n = upstream_addresses(u, check->first_address, found, RESOLVER_ADDRESSES_MAX);
	if (check->n_tried >= n)
		return false;
	*ret = found[check->n_tried++];
	return true;
}

/* The last address has failed. */
static void fail(struct check *check)
{
	struct attempt *a = &check->attempt;

	check->n_tried = 0;
	check->has_failed = true;
	upstream_note_failure(check->upstream, a->how, a->error, attempt_why(a));
}

/* A name that is being asked for has not failed yet. */
static void fail_without_address(struct check *check)
{
	char why[sizeof(check->attempt.why)];

	if (upstream_why_no_address(check->upstream, why, sizeof(why)) < 0)
		return;
	check->has_failed = true;
	upstream_note_failure(check->upstream, HEALTH_NAME, EHOSTUNREACH, why);
}

/* An address has answered. */
static void succeed(struct check *check)
{
	struct upstream *u = check->upstream;

	upstream_note_address(u, &check->attempt.addr);
	if (u->conf.type == UPSTREAM_TCP)
		upstream_note_success(u, 0);
	else if (check->has_failed || health_is_unknown(&u->health))
		upstream_note_answer(u);
	check->has_failed = false;
}

/* An attempt has ended. Returns false if the next address is to be tried. */
static bool conclude(struct check *check, enum attempt_progress progress)
{
	struct attempt *a = &check->attempt;

	attempt_close(a);
	if (progress == ATTEMPT_FAILED)
		return false;
	/* A PROXY header has no answer, so a check is neither refused nor declined. */
	check->n_tried = 0;
	if (progress == ATTEMPT_DONE)
		succeed(check);
	return true;
}

/* Begins attempts until one is under way. */
static void go_on(struct check *check)
{
	struct attempt *a = &check->attempt;
	enum attempt_progress progress;
	union upstream_addr addr;

	while (next_address(check, &addr)) {
		progress = attempt_start(a, a->request, &check->server, &addr, -1);
		if (progress == ATTEMPT_RUNS || conclude(check, progress))
			return;
	}
	if (check->n_tried > 0)
		fail(check);
	else
		fail_without_address(check);
}

static void on_end(struct attempt *a, enum attempt_progress progress)
{
	struct check *check = a->owner;

	if (!conclude(check, progress))
		go_on(check);
}

static void set_tick(struct check *check, uint64_t ms)
{
	const struct timeval delay = { .tv_sec = (time_t)(ms / 1000),
				       .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	event_add(&check->tick, &delay);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct check *check = arg;
	struct attempt *a = &check->attempt;

	set_tick(check, check->upstream->conf.check_interval_ms);
	if (a->stage != ATTEMPT_IDLE && attempt_is_in_queue(a)) {
		conclude(check, ATTEMPT_LOCAL);
	} else if (a->stage != ATTEMPT_IDLE) {
		a->how = HEALTH_TIMEOUT;
		a->error = ETIMEDOUT;
		snprintf(a->why, sizeof(a->why), "no answer");
		conclude(check, ATTEMPT_FAILED);
		go_on(check);
	}
	if (check->n_tried == 0)
		go_on(check);
}

static void add_check(struct checks *checks, struct upstream *u)
{
	struct check *check = &checks->list[checks->n++];

	check->upstream = u;
	check->server.conf = u->conf;
	check->server.conf.type = UPSTREAM_TCP;
	check->server.tls = u->tls;
	check->attempt.fd = -1;
	check->attempt.request = &checks->request;
	check->attempt.on_end = on_end;
	check->attempt.owner = check;
	evtimer_assign(&check->tick, checks->request.base, on_tick, check);
}

struct checks *checks_new(struct event_base *base, struct upstreams *set, const struct marks *marks)
{
	struct checks *checks = calloc(1, sizeof(*checks));
	size_t i;

	if (!checks || tls_home_init(&checks->tls, base) < 0) {
		log_out_of_memory();
		checks_free(checks);
		return NULL;
	}
	checks->set = upstreams_ref(set);
	checks->request = (struct dial_request){
		.base = base,
		.tls = &checks->tls,
		.set = set,
		.client_fd = -1,
		.fd = -1,
		.marks = marks,
		.exempt = !marks,
	};
	for (i = 0; i < set->n; i++) {
		if (is_checked(set->list[i]))
			add_check(checks, set->list[i]);
	}
	for (i = 0; i < checks->n; i++)
		set_tick(&checks->list[i],
			 checks->list[i].upstream->conf.check_interval_ms * (i + 1) / checks->n);
	return checks;
}

void checks_free(struct checks *checks)
{
	size_t i;

	if (!checks)
		return;
	for (i = 0; i < checks->n; i++) {
		attempt_close(&checks->list[i].attempt);
		event_del(&checks->list[i].tick);
	}
	tls_home_finish(&checks->tls);
	upstreams_unref(checks->set);
	free(checks);
}
