// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See health.h. The state changes by compare-and-exchange, so that of many threads that see the
 * same failure one reports it, and of many that find the back-off over one makes the trial. The
 * other members are written without order: a reader may see a reason that is newer than the state.
 */
#include "health.h"

#include <stddef.h>
#include <string.h>

/* Upper bounds of dial times: 0.1 ms to 10 s. */
const uint32_t health_bounds_us[HEALTH_BOUNDS] = {
	100, 500, 1000, 2500, 5000, 10000, 25000, 100000, 250000, 500000, 1000000, 10000000,
};

#define get(counter)	     atomic_load_explicit(counter, memory_order_relaxed)
#define set(counter, value)  atomic_store_explicit(counter, value, memory_order_relaxed)
#define count(counter, more) atomic_fetch_add_explicit(counter, more, memory_order_relaxed)

/* Changes the state. Returns false if it is not @from any more. */
static bool change(struct health *h, enum health_state from, enum health_state to, uint64_t now_ms)
{
	uint32_t expected = from;

	if (!atomic_compare_exchange_strong(&h->state, &expected, to))
		return false;
	/* A trial is part of the time that the upstream is down. */
	if (to != HEALTH_TRYING && from != HEALTH_TRYING)
		set(&h->since_ms, now_ms);
	return true;
}

/* Returns ms, 25 % more or less. The mixer is that of splitmix64. */
static uint64_t with_jitter(uint32_t ms, uint64_t seed)
{
	seed += UINT64_C(0x9e3779b97f4a7c15);
	seed = (seed ^ (seed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	seed = (seed ^ (seed >> 27)) * UINT64_C(0x94d049bb133111eb);
	seed ^= seed >> 31;
	return ms - ms / 4 + seed % (ms / 2 + 1);
}

static void set_retry(struct health *h, uint32_t backoff_ms, uint64_t now_ms)
{
	const uint64_t seed = now_ms ^ (uint64_t)(uintptr_t)h ^ get(&h->dials) << 32;

	set(&h->backoff_ms, backoff_ms);
	set(&h->retry_ms, now_ms + with_jitter(backoff_ms, seed));
}

static void set_why(struct health *h, int error, const char *why)
{
	uint64_t words[HEALTH_WHY_LEN / 8] = {};
	size_t i, len = why ? strlen(why) : 0;

	if (len > 0)
		memcpy(words, why, len < HEALTH_WHY_LEN ? len : HEALTH_WHY_LEN - 1);
	for (i = 0; i < HEALTH_WHY_LEN / 8; i++)
		set(&h->why[i], words[i]);
	set(&h->error, error);
}

bool health_is_unknown(const struct health *h)
{
	return get(&h->state) == HEALTH_UNKNOWN;
}

bool health_would_begin(const struct health *h, uint64_t now_ms)
{
	const enum health_state state = get(&h->state);

	return state == HEALTH_UNKNOWN || state == HEALTH_UP ||
	       (state == HEALTH_DOWN && now_ms >= get(&h->retry_ms));
}

enum health_permit health_begin(struct health *h, uint64_t now_ms)
{
	if (!health_would_begin(h, now_ms))
		return HEALTH_REFUSED;
	if (get(&h->state) != HEALTH_DOWN)
		return HEALTH_ALLOWED;
	return change(h, HEALTH_DOWN, HEALTH_TRYING, now_ms) ? HEALTH_IS_TRIAL : HEALTH_REFUSED;
}

static void count_time(struct health *h, uint64_t us)
{
	const uint64_t ewma_us = get(&h->ewma_us);
	size_t i;

	for (i = 0; i < HEALTH_BOUNDS && us > health_bounds_us[i]; i++)
		;
	count(&h->dial_us[i], 1);
	count(&h->dial_sum_us, us);
	/* Of two threads that do this at the same time, one may be lost. */
	set(&h->ewma_us, ewma_us ? ewma_us - ewma_us / 8 + us / 8 : us);
}

/* Returns true if that ends DOWN. */
static bool set_up(struct health *h, uint64_t now_ms)
{
	const enum health_state state = get(&h->state);

	if (state == HEALTH_UP || !change(h, state, HEALTH_UP, now_ms))
		return false;
	set(&h->since_ms, now_ms);
	return state != HEALTH_UNKNOWN;
}

bool health_answered(struct health *h, uint64_t now_ms)
{
	/* Down again at the next failure, unless a dial succeeds before that. */
	if (get(&h->consecutive) >= HEALTH_FAILURES)
		set(&h->consecutive, HEALTH_FAILURES - 1);
	return set_up(h, now_ms);
}

bool health_succeeded(struct health *h, uint64_t us, uint64_t now_ms)
{
	count(&h->dials, 1);
	set(&h->success_ms, now_ms);
	if (us > 0)
		count_time(h, us);
	if (get(&h->consecutive) > 0)
		set(&h->consecutive, 0);
	if (get(&h->backoff_ms) > 0)
		set(&h->backoff_ms, 0);
	return set_up(h, now_ms);
}

/* Twice the last back-off, or the first one since a success. */
static void begin_backoff(struct health *h, uint64_t now_ms)
{
	const uint32_t last_ms = get(&h->backoff_ms);
	const uint32_t next_ms = last_ms ? 2 * last_ms : HEALTH_BACKOFF_MS;

	set_retry(h, next_ms < HEALTH_BACKOFF_MAX_MS ? next_ms : HEALTH_BACKOFF_MAX_MS, now_ms);
}

bool health_failed(struct health *h, enum health_failure how, int error, const char *why,
		   uint64_t now_ms)
{
	const enum health_state state = get(&h->state);

	count(&h->dials, 1);
	count(&h->failures[how], 1);
	set_why(h, error, why);
	if (state == HEALTH_TRYING) {
		begin_backoff(h, now_ms);
		change(h, HEALTH_TRYING, HEALTH_DOWN, now_ms);
		return false;
	}
	/* A trial that had made room for another one, which has not begun. */
	if (state == HEALTH_DOWN && now_ms >= get(&h->retry_ms))
		begin_backoff(h, now_ms);
	if (count(&h->consecutive, 1) + 1 < HEALTH_FAILURES || state == HEALTH_DOWN)
		return false;
	/* Before the state, so that no thread finds a back-off that is over. */
	begin_backoff(h, now_ms);
	return change(h, state, HEALTH_DOWN, now_ms);
}

void health_given_up(struct health *h, enum health_permit permit, uint64_t now_ms)
{
	/* If another dial has ended the trial, its back-off stays. */
	if (permit != HEALTH_IS_TRIAL || get(&h->state) != HEALTH_TRYING)
		return;
	set(&h->retry_ms, now_ms);
	change(h, HEALTH_TRYING, HEALTH_DOWN, now_ms);
}

void health_read(const struct health *h, struct health_snapshot *ret)
{
	uint64_t words[HEALTH_WHY_LEN / 8];
	size_t i;

	*ret = (struct health_snapshot){
		.state = get(&h->state),
		.since_ms = get(&h->since_ms),
		.retry_ms = get(&h->retry_ms),
		.consecutive = get(&h->consecutive),
		.error = get(&h->error),
		.dials = get(&h->dials),
		.ewma_us = get(&h->ewma_us),
		.dial_sum_us = get(&h->dial_sum_us),
	};
	for (i = 0; i < HEALTH_WHY_LEN / 8; i++)
		words[i] = get(&h->why[i]);
	memcpy(ret->why, words, sizeof(ret->why));
	ret->why[sizeof(ret->why) - 1] = '\0';
	for (i = 0; i < _HEALTH_FAILURE_MAX; i++) {
		ret->failures[i] = get(&h->failures[i]);
		ret->failed += ret->failures[i];
	}
	for (i = 0; i <= HEALTH_BOUNDS; i++)
		ret->dial_us[i] = get(&h->dial_us[i]);
}

const char *health_state_name(enum health_state state)
{
	static const char *const names[] = {
		[HEALTH_UNKNOWN] = "unknown",
		[HEALTH_UP] = "up",
		[HEALTH_DOWN] = "down",
		[HEALTH_TRYING] = "trying",
	};

	return names[state];
}

const char *health_failure_name(enum health_failure how)
{
	static const char *const names[] = {
		[HEALTH_CONNECT] = "connect",	  [HEALTH_TIMEOUT] = "timeout",
		[HEALTH_NAME] = "name",		  [HEALTH_TLS] = "tls",
		[HEALTH_HANDSHAKE] = "handshake", [HEALTH_AUTH] = "auth",
	};

	return names[how];
}
