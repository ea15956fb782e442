// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See dial.h. A dial walks over its places (place.h): the upstreams in the order of group.c, each
 * with its addresses. go_on() starts the next attempt (attempt.c), and conclude() handles the end
 * of one. An attempt ends on its own, by the timer, or when another one has won. If it fails, the
 * next address of its place follows. If it is silent, one more address of its place may be better,
 * as where IPv6 is broken; then the next place is tried, however many addresses are left.
 *
 * A trial (health.h) keeps all other dials from its upstream. It has succeeded when the upstream
 * has accepted this host (on_accepted()), whatever the destination does then. A protocol that says
 * nothing before the destination answers lets another trial begin every trial_ms
 * (on_trial_timer()). So a hung proxy gets one more client in that time, not all of them. If the
 * protocol owes an answer of its own, the trial fails after answer_ms, and another one may follow;
 * the attempt goes on.
 *
 * The timer has one use at a time: to start the second attempt, to give up one of two that is not
 * answered while more addresses are left, or to walk again if the policy is to wait.
 *
 * end_dial() calls the owner and frees the dial. A function that may do so is the last call of its
 * caller, or returns true if it did.
 */
#include "dial.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attempt.h"
#include "group.h"
#include "log.h"
#include "monotonic.h"
#include "place.h"
#include "tproxy_abi.h"
#include "util.h"

/* Attempts that run at the same time. */
#define ATTEMPTS 2
/* answer_ms: one SYN may be lost. */
struct dial_times dial_times = {
	.second_ms = 250,
	.answer_ms = 2000,
	.wait_ms = 250,
	.resolve_ms = 50,
	.trial_ms = 500,
};

struct dial {
	struct dial_request request; /* conn points to the copy below */
	struct tproxy_conn conn;
	struct dial **self; /* where the owner has its pointer */
	uint64_t started_ms;
	struct place places[UPSTREAM_MEMBERS_MAX + 1]; /* one more for the policy `direct` */
	size_t n_places;
	bool unresolved; /* a name has no address yet */
	struct attempt attempts[ATTEMPTS];
	struct place *place_of[ATTEMPTS];
	struct event timer, trial_timer;
	/* The last failure. */
	struct upstream *failed;
	int error;
	int direct_error; /* of an attempt at the destination itself, or 0 */
	bool local;	  /* it was this host's */
	bool of_client;	  /* an upstream that is told who the client is has refused */
	char why[ATTEMPT_WHY_LEN + UPSTREAM_NAME_LEN];
};

static const char *destination_text(const struct dial *d, char buf[FORMAT_ENDPOINT_LEN])
{
	return format_endpoint(d->request.dst, buf);
}

/* Ends all that the dial does, except the event of the winner, which may be NULL. */
static void stop(struct dial *d, const struct attempt *winner)
{
	size_t i;

	for (i = 0; i < ATTEMPTS; i++) {
		if (&d->attempts[i] != winner)
			attempt_close(&d->attempts[i]);
	}
	for (i = 0; i < d->n_places; i++)
		place_give_up(&d->places[i]);
	event_del(&d->timer);
	event_del(&d->trial_timer);
	if (d->request.fd >= 0)
		close(d->request.fd);
	*d->self = NULL;
}

void dial_free(struct dial *d)
{
	size_t i;

	if (!d)
		return;
	for (i = 0; i < ATTEMPTS; i++) {
		if (d->attempts[i].stage != ATTEMPT_IDLE)
			place_judge_silence(d->place_of[i], &d->attempts[i], dial_times.answer_ms,
					    /* expired= */ false);
	}
	stop(d, NULL);
	free(d);
}

/* winner: its socket is in *result; or NULL. */
static void end_dial(struct dial *d, const struct dial_result *result, struct attempt *winner)
{
	stop(d, winner);
	d->request.done(d->request.data, result);
	if (winner)
		attempt_close(winner);
	free(d);
}

static void end_failed(struct dial *d, int error, bool refused, bool expired)
{
	struct dial_result result = {
		.fd = -1,
		.upstream = d->failed ? d->failed : d->request.upstream,
		.error = error,
		.refused = refused && !d->of_client,
		.expired = expired,
		.why = *d->why ? d->why : NULL,
	};

	end_dial(d, &result, NULL);
}

static void win(struct dial *d, struct attempt *a)
{
	struct dial_result result = {
		.upstream = a->upstream,
		.is_tcp = a->addr.sa.sa_family != AF_UNIX && !a->bridge,
		.nagle = attempt_has_nagle(a),
		.acks_late = a->acks_late,
	};
	size_t i;

	upstream_note_address(a->upstream, &a->addr);
	result.fd = TAKE_FD(a->fd);
	result.bridge = TAKE_PTR(a->bridge);
	result.event = attempt_event(a);
	for (i = 0; i < ATTEMPTS; i++) {
		struct attempt *other = &d->attempts[i];

		if (other == a) {
			upstream_note_success(a->upstream, attempt_us(a));
			d->place_of[i]->begun = false;
		} else if (other->stage != ATTEMPT_IDLE) {
			place_judge_loser(d->place_of[i], other, a, dial_times.second_ms);
		}
	}
	end_dial(d, &result, a);
}

/* The next attempt. */

/* Takes the next address of the place. Returns false if it has none that may be dialled. */
static bool take_address(struct dial *d, struct place *p, union upstream_addr *ret)
{
	switch (place_take_address(p, d->request.dst, ret, d->why, sizeof(d->why))) {
	case PLACE_TAKEN:
		return true;
	case PLACE_RESOLVING:
		d->unresolved = true;
		return false;
	case PLACE_UNRESOLVED:
		d->failed = p->upstream;
		d->error = EHOSTUNREACH;
		d->local = false;
		return false;
	default:
		return false;
	}
}

/* True if the place has an attempt whose address has not been reached, and no other was silent. */
static bool is_connecting(const struct dial *d, const struct place *p)
{
	size_t i;

	for (i = 0; i < ATTEMPTS; i++) {
		if (d->attempts[i].stage == ATTEMPT_CONNECT && d->place_of[i] == p)
			return !p->slow;
	}
	return false;
}

/*
 * Takes the next address that may be dialled, and returns its place, or NULL if there is none. A
 * place with an attempt has its turn after the others, unless that one is_connecting().
 */
static struct place *next_place(struct dial *d, union upstream_addr *ret_addr)
{
	int any;
	size_t i;

	for (any = 0; any < 2; any++) {
		for (i = 0; i < d->n_places; i++) {
			struct place *p = &d->places[i];

			if (p->exhausted || p->declined)
				continue;
			if (p->running > 0 && !any && !is_connecting(d, p))
				continue;
			if (take_address(d, p, ret_addr))
				return p;
		}
	}
	return NULL;
}

/* True if an address is left; fresh: of a place that has no attempt. */
static bool is_left(const struct dial *d, bool fresh)
{
	size_t i;

	for (i = 0; i < d->n_places; i++) {
		const struct place *p = &d->places[i];

		if (!(fresh && p->running > 0) && place_has_more(p))
			return true;
	}
	return false;
}

static size_t running(const struct dial *d)
{
	size_t i, n = 0;

	for (i = 0; i < ATTEMPTS; i++)
		n += d->attempts[i].stage != ATTEMPT_IDLE;
	return n;
}

static struct attempt *idle_attempt(struct dial *d)
{
	size_t i;

	for (i = 0; i < ATTEMPTS; i++) {
		if (d->attempts[i].stage == ATTEMPT_IDLE)
			return &d->attempts[i];
	}
	return NULL;
}

/*
 * Returns the prepared socket, which the first attempt takes over, or -1 if its family does not fit
 * or it is gone.
 */
static int take_socket(struct dial *d, sa_family_t family)
{
	if (d->request.fd < 0)
		return -1;
	if (d->request.family == family)
		return TAKE_FD(d->request.fd);
	/* Before another socket is made: a dial needs no more descriptors than a direct session. */
	close(TAKE_FD(d->request.fd));
	return -1;
}

static void add_timer(struct event *timer, uint64_t ms)
{
	const struct timeval delay = { .tv_sec = (time_t)(ms / 1000),
				       .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	/* Without memory for the timer, the attempts that run decide. */
	event_add(timer, &delay);
}

static void set_timer(struct dial *d, uint64_t ms)
{
	add_timer(&d->timer, ms);
}

/* True if both attempts are at one place, and another place is left. */
static bool must_spread(const struct dial *d)
{
	return running(d) == ATTEMPTS && d->place_of[0] == d->place_of[1] &&
	       is_left(d, /* fresh= */ true);
}

/* Sets the timer for what comes next, while attempts run. */
static void set_attempt_timer(struct dial *d)
{
	const bool soon = running(d) < ATTEMPTS || must_spread(d);

	if (is_left(d, /* fresh= */ false))
		set_timer(d, soon ? dial_times.second_ms : dial_times.answer_ms);
	else
		event_del(&d->timer);
}

/* True if attempt i is a trial, which no other dial may join. */
static bool is_trial(const struct dial *d, size_t i)
{
	return d->attempts[i].stage != ATTEMPT_IDLE && d->place_of[i]->begun &&
	       d->place_of[i]->permit == HEALTH_IS_TRIAL;
}

static void set_trial_timer(struct dial *d)
{
	size_t i;

	for (i = 0; i < ATTEMPTS; i++) {
		if (is_trial(d, i) && !evtimer_pending(&d->trial_timer, NULL))
			add_timer(&d->trial_timer, dial_times.trial_ms);
	}
}

/*
 * Lets others begin beside the trials that wait for no answer of the upstream's own, and ends those
 * that have waited for one too long.
 */
static void on_trial_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dial *d = arg;
	size_t i;

	for (i = 0; i < ATTEMPTS; i++) {
		struct attempt *a = &d->attempts[i];
		struct place *p = d->place_of[i];

		if (!is_trial(d, i))
			continue;
		if (attempt_is_unanswered(a) && !attempt_is_in_queue(a)) {
			place_judge_silence(p, a, dial_times.answer_ms, /* expired= */ false);
			continue;
		}
		health_given_up(&p->upstream->health, p->permit, monotonic_coarse_ms());
		p->permit = HEALTH_ALLOWED;
	}
	set_trial_timer(d);
}

/* Callback of attempts: the upstream is at work, and only the destination's answer is missing. */
static void on_accepted(struct attempt *a)
{
	struct dial *d = a->owner;
	struct place *p = d->place_of[a - d->attempts];

	if (!p->begun)
		return;
	upstream_note_answer(p->upstream);
	p->permit = HEALTH_ALLOWED;
}

static void policy(struct dial *d);
static bool conclude(struct dial *d, struct attempt *a, enum attempt_progress progress);

/* Starts attempts until one is under way. May end the dial. */
static void go_on(struct dial *d)
{
	union upstream_addr addr;
	struct attempt *a = idle_attempt(d);
	enum attempt_progress progress;
	struct place *p;

	while ((p = next_place(d, &addr))) {
		d->place_of[a - d->attempts] = p;
		p->running++;
		progress = attempt_start(a, &d->request, p->upstream, &addr,
					 take_socket(d, addr.sa.sa_family));
		if (progress == ATTEMPT_RUNS)
			break;
		if (conclude(d, a, progress))
			return;
	}
	set_trial_timer(d);
	if (running(d) > 0)
		set_attempt_timer(d);
	else
		policy(d);
}

/* The ends of attempts. */

static void note_refusal(struct dial *d, struct attempt *a)
{
	struct upstream *u = a->upstream;
	char dst[FORMAT_ENDPOINT_LEN];

	snprintf(d->why, sizeof(d->why), "%s", attempt_why(a));
	d->failed = u;
	/* It may serve another client. */
	d->of_client |= u->conf.proxy_header != PROXY_HEADER_NONE;
	atomic_fetch_add_explicit(&u->figures.refused, 1, memory_order_relaxed);
	log_limited(&u->refused_log, LOG_LEVEL_WARNING, "upstream '%s' refused %s: %s",
		    u->conf.name, destination_text(d, dst), d->why);
	/* It has answered. The time is that of the destination too. */
	upstream_note_success(u, 0);
}

/* The upstream serves others: it has not failed, but this dial asks it no more. */
static void decline_place(struct dial *d, struct attempt *a, struct place *p)
{
	note_refusal(d, a);
	d->error = a->error;
	d->local = false;
	p->begun = false;
	p->exhausted = p->declined = true;
}

static void note_attempt_failure(struct dial *d, struct attempt *a, struct place *p)
{
	struct upstream *u = a->upstream;
	char addr[UPSTREAM_ADDR_TEXT_LEN];

	d->failed = u;
	d->error = a->error;
	d->local = false;
	snprintf(d->why, sizeof(d->why), "%s", attempt_why(a));
	if (!upstream_has_health(u)) {
		d->direct_error = a->error;
		return;
	}
	log_limited(&u->failed_log, LOG_LEVEL_WARNING, "upstream '%s' at %s: %s", u->conf.name,
		    upstream_addr_text(&a->addr, addr), d->why);
	if (!p->exhausted || p->running > 0)
		return;
	if (attempt_ended_after_answer(a) || attempt_is_in_queue(a))
		place_give_up(p);
	else
		place_fail(p, a->how, a->error, d->why);
}

/* An attempt has ended. Returns true if the dial has ended too. */
static bool conclude(struct dial *d, struct attempt *a, enum attempt_progress progress)
{
	struct place *p = d->place_of[a - d->attempts];

	p->running--;
	switch (progress) {
	case ATTEMPT_DONE:
		win(d, a);
		return true;
	case ATTEMPT_REFUSED:
		note_refusal(d, a);
		p->begun = false;
		end_failed(d, a->error, /* refused= */ true, /* expired= */ false);
		return true;
	case ATTEMPT_DECLINED:
		decline_place(d, a, p);
		break;
	case ATTEMPT_LOCAL:
		d->failed = a->upstream;
		d->error = a->error;
		d->local = true;
		snprintf(d->why, sizeof(d->why), "on this host: %s", strerror(a->error));
		log_limited(&a->upstream->failed_log, LOG_LEVEL_WARNING, "upstream '%s': %s",
			    a->upstream->conf.name, d->why);
		if (p->exhausted && p->running == 0)
			place_give_up(p);
		break;
	default:
		note_attempt_failure(d, a, p);
	}
	attempt_close(a);
	return false;
}

/* Callback of attempts: one has ended by an event. */
static void on_attempt_end(struct attempt *a, enum attempt_progress progress)
{
	struct dial *d = a->owner;

	if (!conclude(d, a, progress))
		go_on(d);
}

/* Returns the one of two attempts that has had its time, or NULL if both may go on. */
static struct attempt *slow_one(struct dial *d)
{
	const int newer = d->attempts[1].started_us < d->attempts[0].started_us ? 0 : 1;
	struct attempt *a = &d->attempts[!newer];

	if (attempt_is_unanswered(a))
		return a;
	/* The timer was set when the other one began, so that has had its time too. */
	a = &d->attempts[newer];
	/* If both are at work, wait for what comes. */
	return attempt_is_unanswered(a) || must_spread(d) ? a : NULL;
}

/* Two attempts run and an address is left: gives up the one that has had its time. */
static void drop_slow(struct dial *d)
{
	struct attempt *a = slow_one(d);

	if (!a)
		return;
	d->place_of[a - d->attempts]->slow = true;
	a->how = HEALTH_TIMEOUT;
	a->error = ETIMEDOUT;
	snprintf(a->why, sizeof(a->why), "%s", attempt_silence(a));
	if (!conclude(d, a, ATTEMPT_FAILED))
		go_on(d);
}

/* Walks over all places again. */
static void walk_again(struct dial *d)
{
	size_t i;

	for (i = 0; i < d->n_places; i++)
		place_reset(&d->places[i]);
	d->unresolved = false;
	go_on(d);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dial *d = arg;

	if (running(d) == ATTEMPTS)
		drop_slow(d);
	else if (running(d) > 0)
		go_on(d);
	else
		walk_again(d);
}

/* True if waiting can help: not all upstreams have declined the request. */
static bool may_be_served(const struct dial *d)
{
	size_t i;

	for (i = 0; i < d->n_places; i++) {
		if (!d->places[i].declined)
			return true;
	}
	return false;
}

/* No attempt runs, and no place is left. */
static void policy(struct dial *d)
{
	const struct upstream_conf *conf = &d->request.upstream->conf;
	const bool first = d->places[d->n_places - 1].upstream != d->request.set->direct;

	if (d->unresolved) {
		set_timer(d, dial_times.resolve_ms);
		return;
	}
	if (conf->when_down == UPSTREAM_DOWN_DIRECT && first) {
		d->places[d->n_places++] = (struct place){ .upstream = d->request.set->direct };
		go_on(d);
		return;
	}
	if (conf->when_down == UPSTREAM_DOWN_WAIT && may_be_served(d) &&
	    monotonic_coarse_ms() - d->started_ms < conf->down_wait_ms) {
		set_timer(d, dial_times.wait_ms);
		return;
	}
	if (!d->failed)
		snprintf(d->why, sizeof(d->why), "%s",
			 conf->type == UPSTREAM_GROUP ? "all of its members are down"
						      : "it is down");
	if (d->local)
		end_failed(d, d->error, /* refused= */ false, /* expired= */ false);
	else if (d->direct_error)
		end_failed(d, d->direct_error, /* refused= */ true, /* expired= */ false);
	else
		end_failed(d, conf->down_error ? conf->down_error : ECONNREFUSED,
			   /* refused= */ true, /* expired= */ false);
}

void dial_expire(struct dial *d)
{
	bool answered = false;
	size_t i;

	for (i = 0; i < ATTEMPTS; i++) {
		struct attempt *a = &d->attempts[i];

		if (a->stage == ATTEMPT_IDLE)
			continue;
		d->failed = a->upstream;
		snprintf(d->why, sizeof(d->why), "%s", attempt_silence(a));
		answered |= a->handshake && handshake_was_answered(a->handshake);
		place_judge_silence(d->place_of[i], a, dial_times.answer_ms, /* expired= */ true);
	}
	/* A proxy that answers, but not for this destination: the silence is the destination's. */
	end_failed(d, ETIMEDOUT, answered || !upstream_has_health(d->request.upstream),
		   /* expired= */ true);
}

bool dial_has_work(const struct dial *d)
{
	size_t i;

	for (i = 0; i < ATTEMPTS; i++) {
		if (attempt_has_work(&d->attempts[i]))
			return true;
	}
	return false;
}

static void set_places(struct dial *d)
{
	const struct dial_request *request = &d->request;
	const struct group_key key = {
		.client = request->client,
		.dst = request->dst,
		.conn = request->conn,
	};
	struct upstream *order[UPSTREAM_MEMBERS_MAX];
	size_t i;

	d->n_places = group_order(request->set, request->upstream, &key, order);
	for (i = 0; i < d->n_places; i++)
		d->places[i].upstream = order[i];
}

void dial_start(const struct dial_request *request, struct dial **ret_dial)
{
	const struct dial_result no_memory = { .fd = -1, .error = ENOMEM };
	struct dial *d = calloc(1, sizeof(*d));
	size_t i;

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
	evtimer_assign(&d->trial_timer, request->base, on_trial_timer, d);
	for (i = 0; i < ATTEMPTS; i++) {
		d->attempts[i].fd = -1;
		d->attempts[i].on_end = on_attempt_end;
		d->attempts[i].on_accepted = on_accepted;
		d->attempts[i].owner = d;
	}
	set_places(d);
	go_on(d);
}
