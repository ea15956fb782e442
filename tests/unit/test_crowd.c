// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/crowd.c, the accept throttle: when new clients wait in the backlog, and for
 * how long.
 */
#include "session/crowd.h"

#include "unit.h"

#define LEAST	16 /* as in crowd.c */
#define MOST_MS 10
#define NOW_MS	1000

static void test_few_do_not_keep_it_waiting(void **state)
{
	struct crowd crowd = { .sessions = LEAST - 1 };
	struct crowd_wait wait = {};

	for (crowd.served = 1; crowd.served < 100; crowd.served++)
		assert_false(crowd_wait(&wait, &crowd, NOW_MS));
}

/*
 * A client waits until an iteration of the loop in which new sessions had no events. To see it red:
 * ignore crowd::served.
 */
static void test_until_all_is_served(void **state)
{
	struct crowd crowd = { .sessions = LEAST, .served = 1 };
	struct crowd_wait wait = {};

	assert_true(crowd_wait(&wait, &crowd, NOW_MS));
	crowd.served += 5;
	assert_true(crowd_wait(&wait, &crowd, NOW_MS + 1));
	assert_false(crowd_wait(&wait, &crowd, NOW_MS + 2));
}

/*
 * Many sessions that wait for their servers do not hold up a client: the worker has nothing to do.
 */
static void test_idle_crowd(void **state)
{
	struct crowd crowd = { .sessions = 1000 };
	struct crowd_wait wait = {};

	assert_false(crowd_wait(&wait, &crowd, NOW_MS));
	assert_false(crowd_wait(&wait, &crowd, NOW_MS + 1));
}

/*
 * A client waits for 10 ms at most, however busy the worker is. To see it red: remove WAIT_MOST_MS,
 * or do not clear since_ms afterwards.
 */
static void test_not_for_long(void **state)
{
	struct crowd crowd = { .sessions = LEAST };
	struct crowd_wait wait = {};
	uint64_t now_ms, accepted = 0;

	for (now_ms = NOW_MS; now_ms <= NOW_MS + 10 * MOST_MS; now_ms++) {
		crowd.served++;
		if (!crowd_wait(&wait, &crowd, now_ms))
			accepted++;
	}
	/* The next client starts to wait in the millisecond after an accept. */
	assert_int_equal(accepted, 10 * MOST_MS / (MOST_MS + 1));
}

/* The time of a wait that has ended does not count for the next one. */
static void test_begins_anew(void **state)
{
	struct crowd crowd = { .sessions = LEAST, .served = 1 };
	struct crowd_wait wait = {};

	assert_true(crowd_wait(&wait, &crowd, NOW_MS));
	crowd.sessions = 1;
	assert_false(crowd_wait(&wait, &crowd, NOW_MS + 1));
	crowd.sessions = LEAST;
	crowd.served++;
	assert_true(crowd_wait(&wait, &crowd, NOW_MS + 100 * MOST_MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_do_not_keep_it_waiting),
		cmocka_unit_test(test_until_all_is_served),
		cmocka_unit_test(test_idle_crowd),
		cmocka_unit_test(test_not_for_long),
		cmocka_unit_test(test_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
