// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See walk.h. walk_go_on() starts the next attempt (attempt.c), and outcome.c judges the end of
 * one. An attempt ends on its own, by the timer, or when another one has won. If it fails, the next
 * address of its place follows. If it is silent, one more address of its place may be better, as
 * where IPv6 is broken; then the next place is tried, however many addresses are left.
 *
 * The timer has one use at a time: to start one more attempt, or to give up one that has had
 * answer_ms. It gives one up if an address is left, and all WALK_ATTEMPTS run, or descriptors or
 * memory are short for one more: one whose upstream owes an answer of its own, or else the oldest.
 * Silent places, however many, therefore take answer_ms for each WALK_ATTEMPTS of them. If the
 * upstream owes an answer of its own, it has failed. If the silence may be the destination's, it
 * has lost if another upstream reaches the destination in this walk (place_judge_silent_loser()).
 *
 * A trial (health.h) keeps all other dials from its upstream. It has succeeded when the upstream
 * has accepted this host (on_accepted()), whatever the destination does then. A protocol that says
 * nothing before the destination answers lets another trial begin every trial_ms
 * (on_trial_timer()). So a hung proxy gets one more client in that time, not all of them. If the
 * protocol owes an answer of its own, the trial fails after answer_ms, and another one may follow;
 * the attempt goes on.
 */
#include "walk.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "monotonic.h"
#include "outcome.h"
#include "parse.h"
#include "request.h"
#include "util.h"

/* answer_ms: one SYN may be lost, and a destination may be slow. */
struct walk_times walk_times = {
	.second_ms = 250,
	.answer_ms = 2000,
	.trial_ms = 500,
};

/* Takes the next address of the place. Returns false if it has none that may be dialled. */
static bool take_address(struct walk *w, struct place *p, union upstream_addr *ret)
{
	switch (place_take_address(p, w->request->dst, ret, w->failure.why,
				   sizeof(w->failure.why))) {
	case PLACE_TAKEN:
		return true;
	case PLACE_RESOLVING:
		w->unresolved = true;
		return false;
	case PLACE_UNRESOLVED:
		w->failure.upstream = p->upstream;
		w->failure.error = EHOSTUNREACH;
		w->failure.local = false;
		return false;
	default:
		return false;
	}
}

/* True if the place has one attempt, which is not connected yet, and no other was silent. */
static bool is_connecting(const struct walk *w, const struct place *p)
{
	size_t i;

	if (p->running != 1 || p->slow)
		return false;
	for (i = 0; i < WALK_ATTEMPTS; i++) {
		if (w->attempts[i].stage == ATTEMPT_CONNECT && w->place_of[i] == p)
			return true;
	}
	return false;
}

/*
 * Takes the next address that may be dialled, and returns its place, or NULL if there is none. A
 * place with an attempt, or that was silent, has its turn after the others, unless the attempt
 * is_connecting().
 */
static struct place *next_place(struct walk *w, union upstream_addr *ret_addr)
{
	int any;
	size_t i;

	for (any = 0; any < 2; any++) {
		for (i = 0; i < w->n_places; i++) {
			struct place *p = &w->places[i];

			if (p->exhausted || p->declined)
				continue;
			if ((p->running > 0 || p->slow) && !any && !is_connecting(w, p))
				continue;
			if (take_address(w, p, ret_addr))
				return p;
		}
	}
	return NULL;
}

static bool is_address_left(const struct walk *w)
{
	size_t i;

	for (i = 0; i < w->n_places; i++) {
		if (place_has_more(&w->places[i]))
			return true;
	}
	return false;
}

static size_t running(const struct walk *w)
{
	size_t i, n = 0;

	for (i = 0; i < WALK_ATTEMPTS; i++)
		n += w->attempts[i].stage != ATTEMPT_IDLE;
	return n;
}

static struct attempt *idle_attempt(struct walk *w)
{
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		if (w->attempts[i].stage == ATTEMPT_IDLE)
			return &w->attempts[i];
	}
	return NULL;
}

/*
 * Returns the prepared socket, which the first attempt takes over, or -1 if its family does not fit
 * or it is gone.
 */
static int take_socket(struct walk *w, sa_family_t family)
{
	if (w->request->fd < 0)
		return -1;
	if (w->request->family == family)
		return TAKE_FD(w->request->fd);
	/* Before another socket is made: a dial needs no more descriptors than a direct session. */
	close(TAKE_FD(w->request->fd));
	return -1;
}

static void add_timer(struct event *timer, uint64_t ms)
{
	const struct timeval delay = { .tv_sec = (time_t)(ms / 1000),
				       .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	/* Without memory for the timer, the attempts that run decide. */
	event_add(timer, &delay);
}

/* Returns the ms until the attempt has had answer_ms, 0 = it has. */
static uint64_t answer_left_ms(const struct attempt *a)
{
	const uint64_t us = attempt_us(a), answer_us = walk_times.answer_ms * UINT64_C(1000);

	return us < answer_us ? (answer_us - us) / 1000 + 1 : 0;
}

/* Of those that run, of which there is one at least. */
static struct attempt *oldest_attempt(struct walk *w)
{
	struct attempt *oldest = NULL;
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		struct attempt *a = &w->attempts[i];

		if (a->stage != ATTEMPT_IDLE && (!oldest || a->started_us < oldest->started_us))
			oldest = a;
	}
	return oldest;
}

/* Returns the ms until all attempts that the refusal waits for have had answer_ms. */
static uint64_t refusal_left_ms(const struct walk *w)
{
	uint64_t left_ms = 0;
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		const struct attempt *a = &w->attempts[i];

		if (outcome_is_awaited(w, a) && answer_left_ms(a) > left_ms)
			left_ms = answer_left_ms(a);
	}
	return left_ms;
}

/* Sets the timer for what comes next, while attempts run. */
static void set_attempt_timer(struct walk *w)
{
	if (w->refused_us)
		add_timer(&w->timer, refusal_left_ms(w));
	else if (!is_address_left(w))
		event_del(&w->timer);
	else if (running(w) < WALK_ATTEMPTS)
		add_timer(&w->timer, walk_times.second_ms);
	else
		add_timer(&w->timer, answer_left_ms(oldest_attempt(w)));
}

/* True if attempt i is a trial, which no other dial may join. */
static bool is_trial(const struct walk *w, size_t i)
{
	return w->attempts[i].stage != ATTEMPT_IDLE && w->place_of[i]->begun &&
	       w->place_of[i]->permit == HEALTH_IS_TRIAL;
}

static void set_trial_timer(struct walk *w)
{
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		if (is_trial(w, i) && !evtimer_pending(&w->trial_timer, NULL))
			add_timer(&w->trial_timer, walk_times.trial_ms);
	}
}

/*
 * Lets others begin beside the trials that wait for no answer of the upstream's own, and ends those
 * that have waited for one too long.
 */
static void on_trial_timer(evutil_socket_t fd, short what, void *arg)
{
	struct walk *w = arg;
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		struct attempt *a = &w->attempts[i];
		struct place *p = w->place_of[i];

		if (!is_trial(w, i))
			continue;
		if (attempt_is_unanswered(a) && !attempt_is_in_queue(a)) {
			place_judge_silence(p, a, walk_times.answer_ms, /* expired= */ false);
			continue;
		}
		health_given_up(&p->upstream->health, p->permit, monotonic_coarse_ms());
		p->permit = HEALTH_ALLOWED;
	}
	set_trial_timer(w);
}

/* Callback of attempts: the upstream is at work, and only the destination's answer is missing. */
static void on_accepted(struct attempt *a)
{
	struct walk *w = a->owner;
	struct place *p = w->place_of[a - w->attempts];

	if (!p->begun)
		return;
	upstream_note_answer(p->upstream);
	p->permit = HEALTH_ALLOWED;
}

/* True for errors that may be over when an attempt has ended. */
static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

/* There are no means for one more attempt, which the timer starts later. */
static void postpone(struct walk *w, struct attempt *a, struct place *p)
{
	p->running--;
	place_put_back(p);
	attempt_close(a);
	w->postponed = true;
}

enum walk_progress walk_go_on(struct walk *w)
{
	struct attempt *a = idle_attempt(w);
	enum attempt_progress started;
	enum walk_progress progress;
	union upstream_addr addr;
	struct place *p;

	w->postponed = false;
	while (!w->refused_us && (p = next_place(w, &addr))) {
		w->place_of[a - w->attempts] = p;
		p->running++;
		started = attempt_start(a, w->request, p->upstream, &addr,
					take_socket(w, addr.sa.sa_family));
		if (started == ATTEMPT_RUNS)
			break;
		if (started == ATTEMPT_LOCAL && is_shortage(a->error) && running(w) > 1) {
			postpone(w, a, p);
			break;
		}
		progress = outcome_note(w, a, started);
		if (progress != WALK_RUNS)
			return progress;
	}
	set_trial_timer(w);
	if (running(w) == 0) {
		event_del(&w->timer);
		return WALK_EMPTY;
	}
	set_attempt_timer(w);
	return WALK_RUNS;
}

/* An event has changed the walk: goes on, and tells the owner if that has an end. */
static void go_on(struct walk *w, enum walk_progress progress)
{
	if (progress == WALK_RUNS)
		progress = walk_go_on(w);
	if (progress != WALK_RUNS)
		w->on_end(w, progress);
}

/* Callback of attempts: one has ended by an event. */
static void on_attempt_end(struct attempt *a, enum attempt_progress progress)
{
	struct walk *w = a->owner;

	go_on(w, outcome_note(w, a, progress));
}

/* Returns the attempt to give up, or NULL if none has had answer_ms yet. */
static struct attempt *spent_attempt(struct walk *w)
{
	struct attempt *oldest = oldest_attempt(w);
	size_t i;

	if (answer_left_ms(oldest) > 0)
		return NULL;
	/* The destination may be slow, so one that does not even answer for itself goes first. */
	for (i = 0; i < WALK_ATTEMPTS; i++) {
		struct attempt *a = &w->attempts[i];

		if (attempt_is_unanswered(a) && answer_left_ms(a) == 0)
			return a;
	}
	return oldest;
}

/* No further attempt can run, and an address is left: gives up one that has had its time. */
static void drop_spent(struct walk *w)
{
	struct attempt *a = spent_attempt(w);
	struct place *p;

	if (!a && running(w) == WALK_ATTEMPTS) {
		set_attempt_timer(w);
		return;
	}
	if (!a) {
		go_on(w, WALK_RUNS);
		return;
	}
	p = w->place_of[a - w->attempts];
	p->slow = true;
	a->how = HEALTH_TIMEOUT;
	a->error = ETIMEDOUT;
	snprintf(a->why, sizeof(a->why), "%s", attempt_silence(a));
	if (outcome_may_be_destination(a) || !p->exhausted)
		place_note_silence(p, a);
	go_on(w, outcome_note(w, a, ATTEMPT_FAILED));
}

/* The refusal has waited long enough. Those that it waited for were slower. */
static void end_refused(struct walk *w)
{
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		struct attempt *a = &w->attempts[i];

		if (outcome_is_awaited(w, a))
			place_judge_loser(w->place_of[i], a, w->refusal.upstream,
					  walk_times.second_ms);
	}
	w->failure = w->refusal;
	w->on_end(w, WALK_REFUSED);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct walk *w = arg;

	if (w->refused_us && refusal_left_ms(w) == 0)
		end_refused(w);
	else if (w->refused_us)
		set_attempt_timer(w);
	else if (running(w) == WALK_ATTEMPTS || w->postponed)
		drop_spent(w);
	else
		go_on(w, WALK_RUNS);
}

/* The owner's part. */

void walk_init(struct walk *w, struct dial_request *request,
	       void (*on_end)(struct walk *w, enum walk_progress progress), void *owner)
{
	size_t i;

	*w = (struct walk){ .request = request, .on_end = on_end, .owner = owner };
	evtimer_assign(&w->timer, request->base, on_timer, w);
	evtimer_assign(&w->trial_timer, request->base, on_trial_timer, w);
	for (i = 0; i < WALK_ATTEMPTS; i++) {
		w->attempts[i].fd = -1;
		w->attempts[i].on_end = on_attempt_end;
		w->attempts[i].on_accepted = on_accepted;
		w->attempts[i].owner = w;
	}
}

void walk_add(struct walk *w, struct upstream *upstream)
{
	w->places[w->n_places++] = (struct place){ .upstream = upstream };
}

void walk_reset(struct walk *w)
{
	size_t i;

	for (i = 0; i < w->n_places; i++)
		place_reset(&w->places[i]);
	w->unresolved = false;
}

void walk_judge(struct walk *w)
{
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		if (w->attempts[i].stage != ATTEMPT_IDLE)
			place_judge_silence(w->place_of[i], &w->attempts[i], walk_times.answer_ms,
					    /* expired= */ false);
	}
}

/* An attempt is under way when the session's timeout expires. */
static void expire_attempt(struct walk *w, struct attempt *a)
{
	struct place *p = w->place_of[a - w->attempts];

	/* Where the destination may be the silent one, the upstream is not to blame. */
	if (upstream_has_health(a->upstream) && attempt_is_unanswered(a))
		attempt_log_failure(a, attempt_silence(a));
	w->failure.upstream = a->upstream;
	w->failure.local = false;
	snprintf(w->failure.why, sizeof(w->failure.why), "%s", attempt_silence(a));
	/* As a later place it may have begun a moment ago, and the destination may well answer. */
	if (!upstream_has_health(a->upstream) && (p == w->places || answer_left_ms(a) == 0))
		w->failure.direct_error = ETIMEDOUT;
	place_judge_silence(p, a, walk_times.answer_ms, /* expired= */ true);
	/* It has failed if the destination is reached without it. */
	if (!attempt_is_unanswered(a))
		place_note_silence(p, a);
	p->running--;
	attempt_close(a);
}

bool walk_expire(struct walk *w)
{
	bool answered = false;
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		struct attempt *a = &w->attempts[i];

		if (a->stage == ATTEMPT_IDLE)
			continue;
		answered |= a->handshake && handshake_was_answered(a->handshake);
		expire_attempt(w, a);
	}
	for (i = 0; i < w->n_places; i++)
		w->places[i].exhausted = true;
	w->unresolved = false;
	if (w->refused_us)
		w->failure = w->refusal;
	return answered;
}

bool walk_has_work(const struct walk *w)
{
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		if (attempt_has_work(&w->attempts[i]))
			return true;
	}
	return false;
}

void walk_stop(struct walk *w)
{
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		if (&w->attempts[i] != w->winner)
			attempt_close(&w->attempts[i]);
	}
	for (i = 0; i < w->n_places; i++)
		place_give_up(&w->places[i]);
	event_del(&w->timer);
	event_del(&w->trial_timer);
	if (w->request->fd >= 0)
		close(TAKE_FD(w->request->fd));
}
