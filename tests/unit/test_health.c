// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/health.c: states, back-off, trials and figures. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "unit.h"
#include "upstream/health.h"
#include "util.h"

static bool fail_at(struct health *h, uint64_t now_ms)
{
	return health_failed(h, HEALTH_CONNECT, ECONNREFUSED, "Connection refused", now_ms);
}

static enum health_state state_of(const struct health *h)
{
	struct health_snapshot s;

	health_read(h, &s);
	return s.state;
}

static uint64_t retry_of(const struct health *h)
{
	struct health_snapshot s;

	health_read(h, &s);
	return s.retry_ms;
}

/* Ends in DOWN at 1000 ms. */
static void bring_down(struct health *h)
{
	int i;

	for (i = 1; i < HEALTH_FAILURES; i++)
		assert_false(fail_at(h, 1000));
	assert_true(fail_at(h, 1000));
	assert_int_equal(state_of(h), HEALTH_DOWN);
}

/* To see it fail: do not set health::consecutive to 0 after a success. */
static void test_failures_in_a_row(void **state)
{
	struct health h = {};

	assert_int_equal(state_of(&h), HEALTH_UNKNOWN);
	assert_false(fail_at(&h, 10));
	assert_false(fail_at(&h, 20));
	assert_false(health_succeeded(&h, 500, 30));
	assert_int_equal(state_of(&h), HEALTH_UP);
	assert_false(fail_at(&h, 40));
	assert_false(fail_at(&h, 50));
	assert_int_equal(state_of(&h), HEALTH_UP);
	assert_int_equal(health_begin(&h, 50), HEALTH_ALLOWED);
	assert_true(fail_at(&h, 60));
	assert_false(fail_at(&h, 70));
	assert_int_equal(health_begin(&h, 70), HEALTH_REFUSED);
}

/*
 * After the back-off one dial is let through, and no other until it has ended. To see it fail: let
 * health_begin() allow any dial once the back-off is over.
 */
static void test_one_trial(void **state)
{
	struct health h = {};
	uint64_t retry_ms;

	bring_down(&h);
	retry_ms = retry_of(&h);
	assert_in_range(retry_ms - 1000, HEALTH_BACKOFF_MS * 3 / 4, HEALTH_BACKOFF_MS * 5 / 4);
	assert_false(health_would_begin(&h, retry_ms - 1));
	assert_int_equal(health_begin(&h, retry_ms - 1), HEALTH_REFUSED);
	assert_true(health_would_begin(&h, retry_ms));
	assert_int_equal(health_begin(&h, retry_ms), HEALTH_IS_TRIAL);
	assert_int_equal(state_of(&h), HEALTH_TRYING);
	assert_int_equal(health_begin(&h, retry_ms), HEALTH_REFUSED);
	assert_true(health_succeeded(&h, 100, retry_ms + 5));
	assert_int_equal(state_of(&h), HEALTH_UP);
	assert_int_equal(health_begin(&h, retry_ms + 5), HEALTH_ALLOWED);
}

/* A trial that was given up is made again at once, by another dial. */
static void test_trial_given_up(void **state)
{
	struct health h = {};
	uint64_t now_ms;

	bring_down(&h);
	now_ms = retry_of(&h);
	assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
	health_given_up(&h, HEALTH_ALLOWED, now_ms); /* another dial's, from before */
	assert_int_equal(state_of(&h), HEALTH_TRYING);
	health_given_up(&h, HEALTH_IS_TRIAL, now_ms + 1);
	assert_int_equal(state_of(&h), HEALTH_DOWN);
	assert_int_equal(health_begin(&h, now_ms + 1), HEALTH_IS_TRIAL);
}

/* An answer ends the trial; the dial itself may end later, or never. */
static void test_trial_answered(void **state)
{
	struct health h = {};
	uint64_t now_ms;

	assert_false(health_answered(&h, 1));
	bring_down(&h);
	now_ms = retry_of(&h);
	assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
	assert_true(health_answered(&h, now_ms + 1));
	assert_int_equal(state_of(&h), HEALTH_UP);
	assert_false(health_answered(&h, now_ms + 1));
	health_given_up(&h, HEALTH_IS_TRIAL, now_ms + 2);
	assert_int_equal(state_of(&h), HEALTH_UP);
}

/*
 * An upstream that accepts each host, and then breaks its protocol. To see it fail: let
 * health_answered() set consecutive, or backoff_ms, to 0.
 */
static void test_answers_are_no_success(void **state)
{
	struct health h = {};
	uint64_t now_ms = 1, wait_ms;
	int i;

	for (i = 0; i < HEALTH_FAILURES; i++) {
		health_answered(&h, now_ms);
		health_failed(&h, HEALTH_HANDSHAKE, EPROTO, "broken", now_ms);
	}
	assert_int_equal(state_of(&h), HEALTH_DOWN);
	wait_ms = HEALTH_BACKOFF_MS;
	for (i = 0; i < 3; i++) {
		now_ms = retry_of(&h);
		assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
		assert_true(health_answered(&h, now_ms));
		assert_true(health_failed(&h, HEALTH_HANDSHAKE, EPROTO, "broken", now_ms));
		wait_ms *= 2;
		assert_in_range(retry_of(&h) - now_ms, wait_ms - wait_ms / 4,
				wait_ms + wait_ms / 4);
	}
	now_ms = retry_of(&h);
	assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
	health_answered(&h, now_ms);
	health_succeeded(&h, 1, now_ms);
	assert_false(health_failed(&h, HEALTH_HANDSHAKE, EPROTO, "broken", now_ms));
	assert_int_equal(state_of(&h), HEALTH_UP);
}

/*
 * A trial makes room for the next one and fails then: the back-off is doubled, and the end of
 * another trial does not shorten it. To see it fail: leave out either condition of now or state.
 */
static void test_trial_fails_late(void **state)
{
	struct health h = {};
	uint64_t now_ms;

	bring_down(&h);
	now_ms = retry_of(&h);
	assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
	health_given_up(&h, HEALTH_IS_TRIAL, now_ms);
	assert_false(fail_at(&h, now_ms + 1));
	assert_in_range(retry_of(&h) - now_ms - 1, 2 * HEALTH_BACKOFF_MS * 3 / 4,
			2 * HEALTH_BACKOFF_MS * 5 / 4);
	now_ms = retry_of(&h);
	fail_at(&h, now_ms - 1);
	health_given_up(&h, HEALTH_IS_TRIAL, now_ms - 1);
	assert_int_equal(retry_of(&h), now_ms);
}

/* To see it fail: do not double the back-off; do not limit it. */
static void test_backoff_is_doubled(void **state)
{
	uint64_t now_ms, expected = HEALTH_BACKOFF_MS, waited;
	struct health h = {};
	int i;

	bring_down(&h);
	now_ms = 1000;
	for (i = 0; i < 10; i++) {
		waited = retry_of(&h) - now_ms;
		assert_in_range(waited, expected * 3 / 4, expected * 5 / 4);
		now_ms = retry_of(&h);
		assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
		assert_false(fail_at(&h, now_ms));
		assert_int_equal(state_of(&h), HEALTH_DOWN);
		expected =
			expected * 2 < HEALTH_BACKOFF_MAX_MS ? expected * 2 : HEALTH_BACKOFF_MAX_MS;
	}
	/* After a success it is short again. */
	now_ms = retry_of(&h);
	assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
	assert_true(health_succeeded(&h, 100, now_ms));
	for (i = 0; i < HEALTH_FAILURES; i++)
		fail_at(&h, now_ms);
	assert_in_range(retry_of(&h) - now_ms, HEALTH_BACKOFF_MS * 3 / 4,
			HEALTH_BACKOFF_MS * 5 / 4);
}

/*
 * Many hosts that lose an upstream at one time do not come back at one time. The pause of each is
 * another one, shorter or longer than what it varies around. To see it fail: return ms in
 * with_jitter(), or leave the address out of its seed.
 */
static void test_backoffs_differ(void **state)
{
	struct health hosts[32] = {};
	uint64_t shortest = UINT64_MAX, longest = 0, waited;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hosts); i++) {
		bring_down(&hosts[i]);
		waited = retry_of(&hosts[i]) - 1000;
		shortest = waited < shortest ? waited : shortest;
		longest = waited > longest ? waited : longest;
	}
	assert_true(shortest < HEALTH_BACKOFF_MS);
	assert_true(longest > HEALTH_BACKOFF_MS);
}

/* The time of the trials counts as down. */
static void test_since(void **state)
{
	struct health_snapshot s;
	struct health h = {};
	uint64_t now_ms;

	bring_down(&h);
	now_ms = retry_of(&h);
	assert_int_equal(health_begin(&h, now_ms), HEALTH_IS_TRIAL);
	fail_at(&h, now_ms);
	health_read(&h, &s);
	assert_int_equal(s.since_ms, 1000);
	assert_int_equal(s.error, ECONNREFUSED);
	assert_string_equal(s.why, "Connection refused");
	now_ms = retry_of(&h);
	health_begin(&h, now_ms);
	health_succeeded(&h, 100, now_ms + 7);
	health_read(&h, &s);
	assert_int_equal(s.since_ms, now_ms + 7);
}

static void test_figures(void **state)
{
	struct health_snapshot s;
	struct health h = {};
	char longest[2 * HEALTH_WHY_LEN];

	health_succeeded(&h, 800, 1);
	health_read(&h, &s);
	assert_int_equal(s.ewma_us, 800);
	health_succeeded(&h, 1600, 2);
	health_succeeded(&h, 0, 3); /* has no time */
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	health_failed(&h, HEALTH_TLS, EPROTO, longest, 4);
	health_read(&h, &s);
	assert_int_equal(s.ewma_us, 900);
	assert_int_equal(s.dials, 4);
	assert_int_equal(s.failed, 1);
	assert_int_equal(s.failures[HEALTH_TLS], 1);
	assert_int_equal(s.dial_us[2], 1); /* up to 1 ms */
	assert_int_equal(s.dial_us[3], 1); /* up to 2.5 ms */
	assert_int_equal(s.dial_sum_us, 2400);
	assert_int_equal(strlen(s.why), HEALTH_WHY_LEN - 1);
	assert_string_equal(health_state_name(HEALTH_TRYING), "trying");
	assert_string_equal(health_failure_name(HEALTH_AUTH), "auth");
}

#define THREADS 4

static void *try_once(void *arg)
{
	return (void *)(uintptr_t)(health_begin(arg, UINT64_MAX / 2) == HEALTH_IS_TRIAL);
}

/* Of several threads, one makes the trial. */
static void test_one_trial_of_threads(void **state)
{
	struct health h = {};
	pthread_t threads[THREADS];
	uintptr_t trials = 0;
	void *is_trial;
	int i;

	bring_down(&h);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, try_once, &h), 0);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &is_trial);
		trials += (uintptr_t)is_trial;
	}
	assert_int_equal(trials, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failures_in_a_row),
		cmocka_unit_test(test_one_trial),
		cmocka_unit_test(test_trial_given_up),
		cmocka_unit_test(test_trial_answered),
		cmocka_unit_test(test_answers_are_no_success),
		cmocka_unit_test(test_trial_fails_late),
		cmocka_unit_test(test_backoff_is_doubled),
		cmocka_unit_test(test_backoffs_differ),
		cmocka_unit_test(test_since),
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_one_trial_of_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
