// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/deadline.c: the head of a queue is the next entry to expire, whichever
 * entries were touched in between.
 */
#include "session/deadline.h"

#include <string.h>
#include <time.h>

#include "monotonic.h"
#include "unit.h"

static void pass_a_tick(void)
{
	uint64_t before = monotonic_coarse_ms();

	while (monotonic_coarse_ms() == before)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void test_order(void **state)
{
	struct deadline_queue queue;
	struct deadline a = {}, b = {};
	uint64_t now_ms;

	deadline_queue_init(&queue);
	queue.timeout_ms = 1000;
	assert_true(deadline_next_ms(&queue, 0) == UINT64_MAX);
	assert_null(deadline_expired(&queue, UINT64_MAX));
	deadline_set(&a, &queue);
	pass_a_tick();
	deadline_set(&b, &queue);
	now_ms = a.touched_ms;
	assert_true(deadline_next_ms(&queue, now_ms) == 1000);
	assert_null(deadline_expired(&queue, now_ms + 999));
	assert_ptr_equal(deadline_expired(&queue, now_ms + 1000), &a);
	assert_true(deadline_next_ms(&queue, now_ms + 5000) == 0);
	/* The entry was touched after now_ms was read. */
	assert_null(deadline_expired(&queue, now_ms - 1));

	pass_a_tick();
	deadline_touch(&a);
	assert_true(a.touched_ms > b.touched_ms);
	assert_ptr_equal(deadline_expired(&queue, b.touched_ms + 1000), &b);
	deadline_clear(&b);
	assert_null(deadline_expired(&queue, b.touched_ms + 1000));
	assert_ptr_equal(deadline_expired(&queue, a.touched_ms + 1000), &a);
}

static void test_move(void **state)
{
	struct deadline_queue idle, half_closed;
	struct deadline a = {};

	deadline_queue_init(&idle);
	idle.timeout_ms = 1000;
	deadline_queue_init(&half_closed);
	half_closed.timeout_ms = 10;
	deadline_set(&a, &idle);
	deadline_set(&a, &half_closed);
	assert_null(deadline_expired(&idle, a.touched_ms + 5000));
	assert_ptr_equal(deadline_expired(&half_closed, a.touched_ms + 10), &a);
	deadline_clear(&a);
	deadline_clear(&a);
	deadline_touch(&a); /* not in a queue: no effect */
	assert_null(deadline_expired(&half_closed, UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
