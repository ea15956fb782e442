// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See outcome.h. */
#include "outcome.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "request.h"

bool outcome_is_awaited(const struct walk *w, const struct attempt *a)
{
	return a->stage != ATTEMPT_IDLE && a->started_us < w->refused_us &&
	       a->upstream != w->refusal.upstream;
}

static void note_refusal(struct walk *w, struct attempt *a)
{
	struct upstream *u = a->upstream;
	char dst[FORMAT_ENDPOINT_LEN];

	snprintf(w->failure.why, sizeof(w->failure.why), "%s", attempt_why(a));
	w->failure.upstream = u;
	/* It may serve another client. */
	w->failure.of_client |= u->conf.proxy_header != PROXY_HEADER_NONE;
	atomic_fetch_add_explicit(&u->figures.refused, 1, memory_order_relaxed);
	log_limited(&u->refused_log, LOG_LEVEL_WARNING, "upstream '%s' refused %s: %s",
		    u->conf.name, format_endpoint(w->request->dst, dst), w->failure.why);
	/* It has answered. The time is that of the destination too. */
	upstream_note_success(u, 0);
}

/* Of several refusals, that of the earliest attempt counts. */
static void hold_refusal(struct walk *w, struct attempt *a)
{
	note_refusal(w, a);
	w->failure.error = a->error;
	w->failure.local = false;
	if (w->refused_us && w->refused_us < a->started_us)
		return;
	w->refusal = w->failure;
	w->refused_us = a->started_us;
}

/* Returns WALK_REFUSED if an upstream has refused, and no earlier attempt runs any more. */
static enum walk_progress refusal_progress(struct walk *w)
{
	size_t i;

	for (i = 0; i < WALK_ATTEMPTS; i++) {
		if (!w->refused_us || outcome_is_awaited(w, &w->attempts[i]))
			return WALK_RUNS;
	}
	w->failure = w->refusal;
	return WALK_REFUSED;
}

/* The upstream serves others: it has not failed, but this walk asks it no more. */
static void decline_place(struct walk *w, struct attempt *a, struct place *p)
{
	note_refusal(w, a);
	w->failure.error = a->error;
	w->failure.local = false;
	p->begun = false;
	p->exhausted = p->declined = true;
}

bool outcome_may_be_destination(const struct attempt *a)
{
	return a->how == HEALTH_TIMEOUT && !attempt_is_unanswered(a);
}

static void note_attempt_failure(struct walk *w, struct attempt *a, struct place *p)
{
	struct upstream *u = a->upstream;

	w->failure.upstream = u;
	w->failure.error = a->error;
	w->failure.local = false;
	snprintf(w->failure.why, sizeof(w->failure.why), "%s", attempt_why(a));
	if (!upstream_has_health(u)) {
		w->failure.direct_error = a->error;
		return;
	}
	attempt_log_failure(a, w->failure.why);
	if (!p->exhausted || p->running > 0)
		return;
	if (attempt_ended_after_answer(a) || attempt_is_in_queue(a))
		place_give_up(p);
	else if (!outcome_may_be_destination(a))
		place_fail(p, a->how, a->error, w->failure.why);
}

/* The attempt has reached the destination. */
static void note_winner(struct walk *w, struct attempt *a)
{
	size_t i;

	w->winner = a;
	upstream_note_address(a->upstream, &a->addr);
	for (i = 0; i < WALK_ATTEMPTS; i++) {
		struct attempt *other = &w->attempts[i];

		if (other == a) {
			upstream_note_success(a->upstream, attempt_us(a));
			w->place_of[i]->begun = false;
		} else if (other->stage != ATTEMPT_IDLE && other->started_us < a->started_us) {
			place_judge_loser(w->place_of[i], other, a->upstream, walk_times.second_ms);
		}
	}
	for (i = 0; i < w->n_places; i++)
		place_judge_silent_loser(&w->places[i], a, walk_times.second_ms);
}

enum walk_progress outcome_note(struct walk *w, struct attempt *a, enum attempt_progress progress)
{
	struct place *p = w->place_of[a - w->attempts];

	p->running--;
	switch (progress) {
	case ATTEMPT_DONE:
		note_winner(w, a);
		return WALK_DONE;
	case ATTEMPT_REFUSED:
		hold_refusal(w, a);
		p->begun = false;
		break;
	case ATTEMPT_DECLINED:
		decline_place(w, a, p);
		break;
	case ATTEMPT_LOCAL:
		w->failure.upstream = a->upstream;
		w->failure.error = a->error;
		w->failure.local = true;
		snprintf(w->failure.why, sizeof(w->failure.why), "on this host: %s",
			 strerror(a->error));
		log_limited(&a->upstream->failed_log, LOG_LEVEL_WARNING, "upstream '%s': %s",
			    a->upstream->conf.name, w->failure.why);
		if (p->exhausted && p->running == 0)
			place_give_up(p);
		break;
	default:
		note_attempt_failure(w, a, p);
	}
	attempt_close(a);
	return refusal_progress(w);
}
