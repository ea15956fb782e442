// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests proxy/upstream/walk.c: the refusal of an upstream while an earlier attempt is under way. */
#include "dials.h"

/*
 * The upstream "a" was dialled first, "b" beside it. Now "b" has refused, and its connection is
 * closed.
 */
static void refuse_by_second(struct fixture *f, enum upstream_type type)
{
	walk_times.second_ms = 5;
	group_of(f, 3, type);
	f->set = make_upstreams("all", NULL);
	/* A third one that nobody asks: a refusal starts no further attempt. */
	bring_down_for_now(f, "c");
	start(f);
	wait_greeted(f, 0, "HI\n");
	wait_greeted(f, 1, "HI\n");
	atomic_store(&find(f, "c")->health.retry_ms, 0);
	answer(f, 1, "N");
	assert_closed_by(f, 1);
}

static void assert_refused_by(struct fixture *f, const char *name)
{
	assert_int_equal(f->result.fd, -1);
	assert_int_equal(f->result.error, ENETUNREACH);
	assert_true(f->result.refused);
	assert_false(f->result.expired);
	assert_string_equal(f->result.upstream->conf.name, name);
	assert_string_equal(f->why, "not today");
}

/*
 * The first one is slow, but serves the destination. To see it fail: let outcome_is_awaited()
 * return false.
 */
static void test_slow_one_is_waited_for(void **state)
{
	struct fixture *f = *state;
	int i;

	refuse_by_second(f, UPSTREAM_HTTP);
	for (i = 0; i < 30; i++)
		pass(f);
	assert_int_equal(f->done, 0);
	assert_false(accepted(f, 2));
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "a").failed, 0);
	assert_int_equal(health_of(f, "b").failed, 0);
	assert_int_equal(atomic_load(&find(f, "b")->figures.refused), 1);
}

/* If it fails, the refusal counts. To see it fail: return WALK_RUNS at the end of outcome_note().
 */
static void test_slow_one_fails(void **state)
{
	struct fixture *f = *state;

	refuse_by_second(f, UPSTREAM_SOCKS5);
	close(TAKE_FD(f->server[0]));
	wait_done(f);
	assert_refused_by(f, "b");
	assert_false(accepted(f, 2));
	assert_int_equal(health_of(f, "a").failures[HEALTH_HANDSHAKE], 1);
}

/* Its own refusal counts at once, and is told. To see it fail: hold the first refusal only.
 */
static void test_slow_one_refuses_too(void **state)
{
	struct fixture *f = *state;

	refuse_by_second(f, UPSTREAM_SOCKS5);
	answer(f, 0, "N");
	wait_done(f);
	assert_refused_by(f, "a");
}

/*
 * The refusal waits until the first one has had answer_ms, and that one has failed. After three of
 * them it is down, and delays no other. To see it fail: leave end_refused() out of on_timer();
 * leave place_judge_loser() out of it.
 */
static void test_silent_one_goes_down(void **state)
{
	struct fixture *f = *state;
	uint64_t start_ms;
	int i;

	walk_times.second_ms = 5;
	walk_times.answer_ms = 80;
	group_of(f, 2, UPSTREAM_HTTP);
	for (i = 0; i < HEALTH_FAILURES; i++) {
		start_ms = monotonic_coarse_ms();
		start(f);
		wait_greeted(f, 0, "HI\n");
		wait_greeted(f, 1, "HI\n");
		answer(f, 1, "N");
		wait_done(f);
		assert_refused_by(f, "b");
		assert_true(monotonic_coarse_ms() - start_ms + 10 >= walk_times.answer_ms);
	}
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	walk_times.answer_ms = NEVER_MS;
	start(f);
	wait_greeted(f, 1, "HI\n");
	answer(f, 1, "N");
	wait_done(f);
	assert_refused_by(f, "b");
}

/* The session's time ends first. To see it fail: ignore refused_us in dial_expire(). */
static void test_session_expires(void **state)
{
	struct fixture *f = *state;

	refuse_by_second(f, UPSTREAM_HTTP);
	dial_expire(f->dial);
	assert_int_equal(f->done, 1);
	assert_refused_by(f, "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_slow_one_is_waited_for), dial_test(test_slow_one_fails),
		dial_test(test_slow_one_refuses_too),	dial_test(test_silent_one_goes_down),
		dial_test(test_session_expires),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
