// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See dial.h. A dial owns a walk (walk.h), which makes the attempts, and decides what follows when
 * the walk has ended, in on_walk_end(). The winner's socket goes to the owner of the dial; so does
 * the error of an upstream that refused the destination. If no address is left, policy() decides:
 *
 *   a name has no address yet   walks again every resolve_ms, whatever when-down says
 *   when-down = direct          adds the destination itself as the last place
 *   when-down = wait            walks again every wait_ms, until down-wait is over
 *   otherwise                   fails, with the error of this host, of the destination, or the
 *                               one that is configured for this case
 *
 * The same decides when the session's timeout expires and no upstream has answered for the
 * destination, in dial_expire(). It waits no more then.
 *
 * end_dial() calls the owner and frees the dial. A function that may do so is the last call of its
 * caller.
 */
#include "dial.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "group.h"
#include "monotonic.h"
#include "tproxy_abi.h"
#include "util.h"
#include "walk.h"

struct dial_times dial_times = {
	.wait_ms = 250,
	.resolve_ms = 50,
};

struct dial {
	struct dial_request request; /* conn points to the copy below */
	struct tproxy_conn conn;
	struct dial **self; /* where the owner has its pointer */
	uint64_t started_ms;
	struct walk walk;
	struct event timer; /* to walk again */
};

static void policy(struct dial *d);

static void stop(struct dial *d)
{
	walk_stop(&d->walk);
	event_del(&d->timer);
	*d->self = NULL;
}

void dial_free(struct dial *d)
{
	if (d)
		walk_judge(&d->walk);
	dial_abandon(d);
}

void dial_abandon(struct dial *d)
{
	if (!d)
		return;
	stop(d);
	free(d);
}

static void end_dial(struct dial *d, const struct dial_result *result)
{
	stop(d);
	d->request.done(d->request.data, result);
	if (d->walk.winner)
		attempt_close(d->walk.winner);
	free(d);
}

static void end_failed(struct dial *d, int error, bool refused, bool expired)
{
	const struct walk_failure *failure = &d->walk.failure;
	const struct dial_result result = {
		.fd = -1,
		.upstream = failure->upstream ? failure->upstream : d->request.upstream,
		.error = error,
		.refused = refused && !failure->of_client,
		.expired = expired,
		.why = *failure->why ? failure->why : NULL,
	};

	end_dial(d, &result);
}

static void end_done(struct dial *d)
{
	struct attempt *a = d->walk.winner;
	struct dial_result result = {
		.upstream = a->upstream,
		.is_tcp = a->addr.sa.sa_family != AF_UNIX && !a->bridge,
		.nagle = attempt_has_nagle(a),
		.acks_late = a->acks_late,
	};

	result.fd = TAKE_FD(a->fd);
	result.bridge = TAKE_PTR(a->bridge);
	result.event = attempt_event(a);
	end_dial(d, &result);
}

/* Callback of the walk. */
static void on_walk_end(struct walk *w, enum walk_progress progress)
{
	struct dial *d = w->owner;

	switch (progress) {
	case WALK_RUNS:
		break;
	case WALK_DONE:
		end_done(d);
		break;
	case WALK_REFUSED:
		end_failed(d, w->failure.error, /* refused= */ true, /* expired= */ false);
		break;
	case WALK_EMPTY:
		policy(d);
		break;
	}
}

static void go_on(struct dial *d)
{
	on_walk_end(&d->walk, walk_go_on(&d->walk));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dial *d = arg;

	walk_reset(&d->walk);
	go_on(d);
}

static void walk_again_in(struct dial *d, uint32_t ms)
{
	const struct timeval delay = { .tv_sec = ms / 1000,
				       .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	/* Without memory for the timer, the session's timeout ends the dial. */
	event_add(&d->timer, &delay);
}

/* True if waiting can help: not all upstreams have declined the request. */
static bool may_be_served(const struct walk *w)
{
	size_t i;

	for (i = 0; i < w->n_places; i++) {
		if (!w->places[i].declined)
			return true;
	}
	return false;
}

/* The destination itself was dialled, and this is its error. */
static void end_direct(struct dial *d)
{
	const int error = d->walk.failure.direct_error;

	end_failed(d, error, /* refused= */ true, /* expired= */ error == ETIMEDOUT);
}

/* No upstream can be reached, and the policy is not to go on. */
static void end_down(struct dial *d)
{
	const struct upstream_conf *conf = &d->request.upstream->conf;
	struct walk_failure *failure = &d->walk.failure;

	if (!failure->upstream)
		snprintf(failure->why, sizeof(failure->why), "%s",
			 conf->type == UPSTREAM_GROUP ? "all of its members are down"
						      : "it is down");
	if (failure->local)
		end_failed(d, failure->error, /* refused= */ false, /* expired= */ false);
	else if (failure->direct_error)
		end_failed(d, failure->direct_error, /* refused= */ true, /* expired= */ false);
	else
		end_failed(d, conf->down_error ? conf->down_error : ECONNREFUSED,
			   /* refused= */ true, /* expired= */ false);
}

/* True if the policy is to dial the destination itself, and that was not done yet. */
static bool wants_direct(const struct dial *d)
{
	const struct walk *w = &d->walk;

	return d->request.upstream->conf.when_down == UPSTREAM_DOWN_DIRECT &&
	       w->places[w->n_places - 1].upstream != d->request.set->direct;
}

/* No attempt runs, and no place is left. */
static void policy(struct dial *d)
{
	const struct upstream_conf *conf = &d->request.upstream->conf;
	struct walk *w = &d->walk;

	if (w->unresolved) {
		walk_again_in(d, dial_times.resolve_ms);
	} else if (wants_direct(d)) {
		walk_add(w, d->request.set->direct);
		go_on(d);
	} else if (conf->when_down == UPSTREAM_DOWN_WAIT && may_be_served(w) &&
		   monotonic_coarse_ms() - d->started_ms < conf->down_wait_ms) {
		walk_again_in(d, dial_times.wait_ms);
	} else {
		end_down(d);
	}
}

/*
 * No upstream has answered for the destination in time. Without a stated error it is ETIMEDOUT,
 * because the destination may be the silent one. A proxy that answers, but not for this
 * destination, says that it is: answered.
 */
static void end_silent(struct dial *d, bool answered)
{
	const struct upstream_conf *conf = &d->request.upstream->conf;

	if (conf->when_down == UPSTREAM_DOWN_WAIT || conf->down_error)
		end_down(d);
	else
		end_failed(d, ETIMEDOUT, /* refused= */ answered, /* expired= */ true);
}

bool dial_expire(struct dial *d)
{
	const bool answered = walk_expire(&d->walk);
	const struct walk_failure *failure = &d->walk.failure;
	enum walk_progress progress;

	event_del(&d->timer);
	if (d->walk.refused_us) {
		end_failed(d, failure->error, /* refused= */ true, /* expired= */ false);
	} else if (failure->direct_error) {
		end_direct(d);
	} else if (wants_direct(d)) {
		walk_add(&d->walk, d->request.set->direct);
		progress = walk_go_on(&d->walk);
		if (progress == WALK_RUNS)
			return true;
		on_walk_end(&d->walk, progress);
	} else {
		end_silent(d, answered);
	}
	return false;
}

uint64_t dial_longest_ms(const struct upstreams *set, uint64_t timeout_ms)
{
	size_t i;

	for (i = 0; set && i < set->n; i++) {
		if (set->list[i]->conf.when_down == UPSTREAM_DOWN_DIRECT)
			return 2 * timeout_ms;
	}
	return timeout_ms;
}

uint64_t dial_limit_ms(struct dial_limit *limit, const struct upstreams *set, uint64_t timeout_ms,
		       uint64_t now_ms)
{
	const uint64_t longest_ms = dial_longest_ms(set, timeout_ms);

	if (longest_ms > timeout_ms)
		limit->doubled_until_ms = now_ms + longest_ms;
	return now_ms < limit->doubled_until_ms ? 2 * timeout_ms : longest_ms;
}

bool dial_has_work(const struct dial *d)
{
	return walk_has_work(&d->walk);
}

static void add_places(struct dial *d)
{
	const struct dial_request *request = &d->request;
	const struct group_key key = {
		.client = request->client,
		.dst = request->dst,
		.conn = request->conn,
	};
	struct upstream *order[UPSTREAM_MEMBERS_MAX];
	size_t i, n = group_order(request->set, request->upstream, &key, order);

	for (i = 0; i < n; i++)
		walk_add(&d->walk, order[i]);
}

void dial_start(const struct dial_request *request, struct dial **ret_dial)
{
	const struct dial_result no_memory = { .fd = -1, .error = ENOMEM };
	struct dial *d = calloc(1, sizeof(*d));

	*ret_dial = d;
	if (!d) {
		if (request->fd >= 0)
			close(request->fd);
		request->done(request->data, &no_memory);
		return;
	}
	d->request = *request;
	d->self = ret_dial;
	d->started_ms = monotonic_coarse_ms();
	if (request->conn) {
		d->conn = *request->conn;
		d->request.conn = &d->conn;
	}
	evtimer_assign(&d->timer, request->base, on_timer, d);
	walk_init(&d->walk, &d->request, on_walk_end, d);
	add_places(d);
	go_on(d);
}
