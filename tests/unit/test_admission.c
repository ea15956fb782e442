// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/admission.c, the accept throttle: when new clients wait in the backlog, and
 * for how long.
 */
#include "session/admission.h"

#include "unit.h"

#define LEAST	16 /* as in admission.c */
#define MOST_MS 10
#define NOW_MS	1000

static void test_few_do_not_keep_it_waiting(void **state)
{
	struct admission admission = { .sessions = LEAST - 1 };
	struct admission_wait wait = {};

	for (admission.served = 1; admission.served < 100; admission.served++)
		assert_false(admission_wait(&wait, &admission, NOW_MS));
}

/*
 * A client waits until an iteration of the loop in which new sessions had no events. To see it
 * fail: ignore admission::served.
 */
static void test_until_all_is_served(void **state)
{
	struct admission admission = { .sessions = LEAST, .served = 1 };
	struct admission_wait wait = {};

	assert_true(admission_wait(&wait, &admission, NOW_MS));
	admission.served += 5;
	assert_true(admission_wait(&wait, &admission, NOW_MS + 1));
	assert_false(admission_wait(&wait, &admission, NOW_MS + 2));
}

/*
 * Many sessions that wait for their servers do not hold up a client: the worker has nothing to do.
 */
static void test_idle_sessions_are_no_load(void **state)
{
	struct admission admission = { .sessions = 1000 };
	struct admission_wait wait = {};

	assert_false(admission_wait(&wait, &admission, NOW_MS));
	assert_false(admission_wait(&wait, &admission, NOW_MS + 1));
}

/*
 * A client waits for 10 ms at most, however busy the worker is. To see it fail: remove
 * WAIT_MOST_MS, or do not clear since_ms afterwards.
 */
static void test_not_for_long(void **state)
{
	struct admission admission = { .sessions = LEAST };
	struct admission_wait wait = {};
	uint64_t now_ms, accepted = 0;

	for (now_ms = NOW_MS; now_ms <= NOW_MS + 10 * MOST_MS; now_ms++) {
		admission.served++;
		if (!admission_wait(&wait, &admission, now_ms))
			accepted++;
	}
	/* The next client starts to wait in the millisecond after an accept. */
	assert_int_equal(accepted, 10 * MOST_MS / (MOST_MS + 1));
}

/* The time of a wait that has ended does not count for the next one. */
static void test_begins_again(void **state)
{
	struct admission admission = { .sessions = LEAST, .served = 1 };
	struct admission_wait wait = {};

	assert_true(admission_wait(&wait, &admission, NOW_MS));
	admission.sessions = 1;
	assert_false(admission_wait(&wait, &admission, NOW_MS + 1));
	admission.sessions = LEAST;
	admission.served++;
	assert_true(admission_wait(&wait, &admission, NOW_MS + 100 * MOST_MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_do_not_keep_it_waiting),
		cmocka_unit_test(test_until_all_is_served),
		cmocka_unit_test(test_idle_sessions_are_no_load),
		cmocka_unit_test(test_not_for_long),
		cmocka_unit_test(test_begins_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
