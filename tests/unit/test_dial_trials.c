// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/upstream/walk.c and dial.c: upstreams that are down, their trials, and what is done
 * when all are (upstream_conf::when_down).
 */
#include "dials.h"

/*
 * All are down: the dial fails with the stated errno, and dials nobody. To see it fail: ignore
 * HEALTH_REFUSED in next_place().
 */
static void test_all_down(void **state)
{
	struct fixture *f = *state;
	int i;

	group_of(f, 2, UPSTREAM_TCP)->down_error = EHOSTUNREACH;
	close(TAKE_FD(f->listener[0]));
	close(TAKE_FD(f->listener[1]));
	for (i = 0; i < HEALTH_FAILURES; i++) {
		start(f);
		wait_done(f);
		assert_int_equal(f->result.error, EHOSTUNREACH);
		assert_true(f->result.refused);
		assert_string_equal(f->why, "Connection refused");
	}
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_int_equal(health_of(f, "b").state, HEALTH_DOWN);
	start(f);
	wait_done(f);
	assert_int_equal(f->result.error, EHOSTUNREACH);
	assert_string_equal(f->why, "all of its members are down");
	assert_string_equal(f->result.upstream->conf.name, "all");
	assert_int_equal(health_of(f, "a").dials, HEALTH_FAILURES);
}

/* One that is down gets one dial after its back-off; others do not wait for it. */
static void test_trial(void **state)
{
	struct fixture *f = *state;
	struct dial *trial;
	struct health *h;
	int i;

	group_of(f, 2, UPSTREAM_SOCKS5);
	f->set = make_upstreams("all", NULL);
	h = &find(f, "a")->health;
	for (i = 0; i < HEALTH_FAILURES; i++)
		health_failed(h, HEALTH_CONNECT, ECONNREFUSED, "", monotonic_coarse_ms());
	atomic_store(&h->retry_ms, monotonic_coarse_ms());
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	/* Its owner's pointer is elsewhere now: the trial must not end before the next dial does.
	 */
	trial = f->dial;
	f->dial = NULL;
	start(f);
	complete(f, 1, "b");
	f->dial = trial;
	dial_free(trial);
	f->dial = NULL;
	/* Given up: the next dial tries again. */
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "Y");
	wait_done(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

/*
 * The destination of the trial is silent, but the upstream is at work: others may use it at once.
 * To see it fail: do not set attempt::on_accepted.
 */
static void test_trial_ends_when_accepted(void **state)
{
	struct fixture *f = *state;

	start_trial(f, UPSTREAM_SOCKS5, NEVER_MS, NEVER_MS);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	answer(f, 0, "A");
	wait_trial_over(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
	assert_int_equal(f->done, 0);
	dial_free(f->dial);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

/*
 * A protocol without an answer of its own: after trial_ms the next dial is a trial too, and only
 * one. To see it fail: set no timer in set_trial_timer().
 */
static void test_silent_trial_makes_room(void **state)
{
	struct fixture *f = *state;
	struct dial *silent, *second;
	int kept;

	start_trial(f, UPSTREAM_HTTP, 20, NEVER_MS);
	wait_trial_over(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_int_equal(f->done, 0);
	silent = f->dial;
	kept = TAKE_FD(f->server[0]);
	walk_times.trial_ms = NEVER_MS;
	start(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	wait_greeted(f, 0, "HI\n");
	/* The end of the first one leaves the second trial alone. */
	second = f->dial;
	dial_free(silent);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
	f->dial = second;
	close(kept);
}

/* The silence of a protocol that answers first is the upstream's: nobody joins the trial. */
static void test_unanswered_trial_makes_no_room(void **state)
{
	struct fixture *f = *state;
	int i;

	start_trial(f, UPSTREAM_SOCKS5, 5, NEVER_MS);
	for (i = 0; i < 30; i++)
		pass(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_TRYING);
}

/*
 * It does not hold the trial for the whole dial: after answer_ms the trial has failed. The attempt
 * goes on, and its late answer counts. To see it fail: do not call place_judge_silence() in
 * on_trial_timer().
 */
static void test_unanswered_trial_fails(void **state)
{
	struct fixture *f = *state;

	start_trial(f, UPSTREAM_SOCKS5, 5, 20);
	wait_trial_over(f);
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
	assert_int_equal(f->done, 0);
	answer(f, 0, "Y");
	wait_done(f);
	assert_through(f, "a", 0);
	assert_int_equal(health_of(f, "a").state, HEALTH_UP);
}

static void test_when_down_direct(void **state)
{
	struct fixture *f = *state;

	group_of(f, 2, UPSTREAM_TCP)->when_down = UPSTREAM_DOWN_DIRECT;
	close_server(f, 0);
	close_server(f, 1);
	start(f);
	wait_done(f);
	assert_through(f, "direct", 2);
}

/* The destination's own error is told then. */
static void test_when_down_direct_fails_too(void **state)
{
	struct fixture *f = *state;

	group_of(f, 1, UPSTREAM_TCP)->when_down = UPSTREAM_DOWN_DIRECT;
	close_server(f, 0);
	close_server(f, 2);
	upstreams_conf.list[1].down_error = EACCES;
	start(f);
	wait_done(f);
	assert_int_equal(f->result.fd, -1);
	assert_int_equal(f->result.error, ECONNREFUSED);
	assert_true(f->result.refused);
}

/* To see it fail: end the dial in policy() for UPSTREAM_DOWN_WAIT too. */
static void test_when_down_wait(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group = group_of(f, 1, UPSTREAM_TCP);
	uint64_t start_ms = monotonic_coarse_ms();

	group->when_down = UPSTREAM_DOWN_WAIT;
	group->down_wait_ms = 60000;
	close_server(f, 0);
	start(f);
	while (health_of(f, "a").dials < 2 && monotonic_coarse_ms() < start_ms + 20000)
		pass(f);
	assert_int_equal(f->done, 0);
	f->listener[0] = listen_on(&f->addr[0]);
	wait_done(f);
	assert_through(f, "a", 0);
}

static void test_when_down_wait_ends(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group = group_of(f, 1, UPSTREAM_TCP);

	group->when_down = UPSTREAM_DOWN_WAIT;
	group->down_wait_ms = 100;
	close_server(f, 0);
	start(f);
	wait_done(f);
	assert_int_equal(f->result.error, ECONNREFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_all_down),
		dial_test(test_trial),
		dial_test(test_trial_ends_when_accepted),
		dial_test(test_silent_trial_makes_room),
		dial_test(test_unanswered_trial_makes_no_room),
		dial_test(test_unanswered_trial_fails),
		dial_test(test_when_down_direct),
		dial_test(test_when_down_direct_fails_too),
		dial_test(test_when_down_wait),
		dial_test(test_when_down_wait_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
