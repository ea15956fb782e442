// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See place.h. */
#include "place.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "monotonic.h"
#include "resolver.h"

void place_give_up(struct place *p)
{
	if (p->begun && upstream_has_health(p->upstream))
		health_given_up(&p->upstream->health, p->permit, monotonic_coarse_ms());
	p->begun = false;
}

void place_fail(struct place *p, enum health_failure how, int error, const char *why)
{
	if (p->begun)
		upstream_note_failure(p->upstream, how, error, why);
	p->begun = false;
}

void place_note_silence(struct place *p, const struct attempt *a)
{
	if (!p->silent_us) {
		p->silent_started_us = a->started_us;
		p->silent_us = attempt_us(a);
	}
	/* The place stays begun, but others need not wait for its trial. */
	if (p->begun && p->permit == HEALTH_IS_TRIAL) {
		health_given_up(&p->upstream->health, p->permit, monotonic_coarse_ms());
		p->permit = HEALTH_ALLOWED;
	}
}

/* Its attempt, which began at started_us, has been silent for us. */
static void judge_loser(struct place *p, uint64_t started_us, uint64_t us,
			const struct upstream *faster, uint32_t late_ms)
{
	const struct health *h = &p->upstream->health;
	const uint64_t usual_us = atomic_load_explicit(&h->ewma_us, memory_order_relaxed);
	const uint64_t success_ms = atomic_load_explicit(&h->success_ms, memory_order_relaxed);
	/*
	 * The faster one began late_ms later. If both usually take the same time, the silent one
	 * has had late_ms more than that; half of it leaves room for how much the times vary.
	 */
	const uint64_t least_us = usual_us + late_ms * UINT64_C(1000) / 2;
	char why[HEALTH_WHY_LEN];

	/* It serves others meanwhile: the destination is slow for it, perhaps on purpose. */
	if (p->upstream == faster || success_ms * UINT64_C(1000) > started_us || us < least_us)
		return;
	snprintf(why, sizeof(why), "no answer in %u ms, '%s' was faster", (unsigned)(us / 1000),
		 faster->conf.name);
	place_fail(p, HEALTH_TIMEOUT, ETIMEDOUT, why);
}

void place_judge_loser(struct place *p, const struct attempt *a, const struct upstream *faster,
		       uint32_t late_ms)
{
	if (!attempt_is_in_queue(a))
		judge_loser(p, a->started_us, attempt_us(a), faster, late_ms);
}

void place_judge_silent_loser(struct place *p, const struct attempt *winner, uint32_t late_ms)
{
	/* One that was given up before the winner was done, but had less time, was not slower. */
	if (p->silent_us >= attempt_us(winner) && p->silent_started_us < winner->started_us)
		judge_loser(p, p->silent_started_us, p->silent_us, winner->upstream, late_ms);
}

void place_judge_silence(struct place *p, const struct attempt *a, uint32_t answer_ms, bool expired)
{
	if (attempt_is_unanswered(a) && !attempt_is_in_queue(a) &&
	    (expired || attempt_us(a) >= answer_ms * UINT64_C(1000)))
		place_fail(p, HEALTH_TIMEOUT, ETIMEDOUT, attempt_silence(a));
}

/* Returns the number of addresses of the place, and sets ret to them. */
static size_t addresses(const struct place *p, const union sockaddr_any *dst,
			union upstream_addr ret[RESOLVER_ADDRESSES_MAX])
{
	if (p->upstream->conf.type != UPSTREAM_DIRECT)
		return upstream_addresses(p->upstream, p->first_address, ret,
					  RESOLVER_ADDRESSES_MAX);
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, dst, sizeof(*dst));
	return 1;
}

/* Asks for the permit. Returns false if the upstream may not be dialled now. */
static bool begin(struct place *p)
{
	struct upstream *u = p->upstream;

	p->permit = upstream_has_health(u) ? health_begin(&u->health, monotonic_coarse_ms())
					   : HEALTH_ALLOWED;
	p->begun = p->permit != HEALTH_REFUSED;
	p->exhausted = !p->begun;
	if (p->begun)
		p->first_address = upstream_good_address(u);
	return p->begun;
}

static enum place_taken no_address(struct place *p, char *why, size_t why_size)
{
	struct upstream *u = p->upstream;

	if (upstream_why_no_address(u, why, why_size) < 0) {
		place_give_up(p);
		return PLACE_RESOLVING;
	}
	log_limited(&u->failed_log, LOG_LEVEL_WARNING, "upstream '%s': %s", u->conf.name, why);
	place_fail(p, HEALTH_NAME, EHOSTUNREACH, why);
	return PLACE_UNRESOLVED;
}

enum place_taken place_take_address(struct place *p, const union sockaddr_any *dst,
				    union upstream_addr *ret, char *why, size_t why_size)
{
	union upstream_addr found[RESOLVER_ADDRESSES_MAX];
	size_t n;

	if (p->n_tried == 0 && !begin(p))
		return PLACE_EMPTY;
	n = addresses(p, dst, found);
	p->exhausted = p->n_tried + 1 >= n;
	if (n == 0 && p->n_tried == 0)
		return no_address(p, why, why_size);
	if (p->n_tried >= n) { /* the name has fewer addresses now */
		if (p->running == 0)
			place_give_up(p);
		return PLACE_EMPTY;
	}
	*ret = found[p->n_tried++];
	return PLACE_TAKEN;
}

void place_put_back(struct place *p)
{
	p->exhausted = false;
	if (--p->n_tried == 0)
		place_give_up(p);
}

bool place_has_more(const struct place *p)
{
	if (p->exhausted || p->declined)
		return false;
	return p->n_tried > 0 || !upstream_has_health(p->upstream) ||
	       health_would_begin(&p->upstream->health, monotonic_coarse_ms());
}

void place_reset(struct place *p)
{
	place_give_up(p);
	p->exhausted = p->slow = false;
	p->n_tried = 0;
	p->silent_us = 0;
}
