// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/walk.c: the attempt that begins beside a slow one, and which one loses. */
#include "dials.h"

/* The usual time of an upstream: longer than any test, and short. */
#define SLOW_US UINT64_C(60000000)

#define FAST_US UINT64_C(1000)
/* Long beside walk_times.second_ms. */
#define EQUAL_US UINT64_C(200000)

/*
 * The first upstream accepts and is silent. After a while the second one is dialled beside it, and
 * wins: the first is closed, and counts as failed. To see it fail: set no timer in
 * set_attempt_timer(); do not call place_judge_loser().
 */
static void test_second_dial_wins(void **state)
{
	struct fixture *f = *state;
	uint64_t start_ms = monotonic_coarse_ms();

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	assert_true(monotonic_coarse_ms() - start_ms + 10 >= walk_times.second_ms);
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
	assert_closed(f, 0);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
}

/* Lets the upstream "b" win in this time against "a", whose dials usually take usual_us. */
static void win_against(struct fixture *f, uint64_t usual_us, uint64_t ms)
{

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	f->set = make_upstreams("all", NULL);
	health_succeeded(&find(f, "a")->health, usual_us, monotonic_coarse_ms());
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	pass_ms(f, ms);
	answer(f, 1, "Y");
	wait_done(f);
	assert_through(f, "b", 1);
}

/* To see it fail: compare with 0 in place of usual_us in judge_loser(). */
static void test_slow_one_may_lose(void **state)
{
	win_against(*state, SLOW_US, 20);
	assert_int_equal(health_of(*state, "a").failed, 0);
}

/* To see it fail: let judge_loser() return whenever there is a usual time. */
static void test_fast_one_may_not_lose(void **state)
{
	win_against(*state, FAST_US, 20);
	assert_int_equal(health_of(*state, "a").failures[HEALTH_TIMEOUT], 1);
}

/*
 * Two upstreams that take the same time, of which one falls silent. To see it fail: have
 * judge_loser() ask for twice the usual time.
 */
static void test_equal_one_may_not_lose(void **state)
{
	win_against(*state, EQUAL_US, EQUAL_US / 1000);
	assert_int_equal(health_of(*state, "a").failures[HEALTH_TIMEOUT], 1);
}

/*
 * A slow destination does not bring down a proxy that serves others meanwhile. To see it fail:
 * ignore health::success_ms in judge_loser().
 */
static void test_one_that_serves_others_may_lose(void **state)
{
	struct fixture *f = *state;
	uint64_t end_ms;
	int i;

	hurry();
	group_of(f, 2, UPSTREAM_HTTP);
	for (i = 0; i < HEALTH_FAILURES; i++) {
		start(f);
		wait_greeted(f, 0, "HI\n");
		wait_greeted(f, 1, "HI\n");
		/* Longer than the resolution of the clock after the beginning. */
		end_ms = monotonic_coarse_ms() + 20;
		while (monotonic_coarse_ms() < end_ms)
			pass(f);
		upstream_note_success(find(f, "a"), 0);
		answer(f, 1, "Y");
		wait_done(f);
		assert_through(f, "b", 1);
	}
	assert_int_equal(health_of(f, "a").failed, 0);
}

/* The first one answers after the second one has begun, and wins. That is no failure of either. */
static void test_first_dial_wins_late(void **state)
{
	struct fixture *f = *state;

	hurry();
	group_of(f, 2, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_closed(f, 1);
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "b").failed, 0);
}

/*
 * Without another one that may be dialled, both go on, and the late answer of the first counts. To
 * see it fail: call drop_spent() in on_timer() whatever runs, and set its timer whatever is left.
 */
static void none_is_given_up(struct fixture *f, size_t members)
{

	hurry();
	walk_times.answer_ms = 20;
	group_of(f, members, UPSTREAM_SOCKS5);
	f->set = make_upstreams("all", NULL);
	if (members == 3)
		bring_down_for_now(f, "c");
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	pass_ms(f, walk_times.answer_ms + 50);
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "a").failed, 0);
}

static void test_no_third(void **state)
{
	none_is_given_up(*state, 2);
}

static void test_third_is_down(void **state)
{
	none_is_given_up(*state, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_second_dial_wins),
		dial_test(test_slow_one_may_lose),
		dial_test(test_fast_one_may_not_lose),
		dial_test(test_equal_one_may_not_lose),
		dial_test(test_one_that_serves_others_may_lose),
		dial_test(test_first_dial_wins_late),
		dial_test(test_no_third),
		dial_test(test_third_is_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
