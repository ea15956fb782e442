// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/upstream/dial.c: the session's timeout expires, and upstream_conf::when_down decides
 * if no upstream has answered for the destination.
 */
#include "dials.h"

/*
 * The session's time is over. SOCKS5 answers before it connects: silence is the upstream's. To see
 * it fail: do not call place_judge_silence() in expire_attempt().
 */
static void test_unanswered(void **state)
{
	struct fixture *f = *state;

	group_of(f, 1, UPSTREAM_SOCKS5);
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->done, 1);
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_true(f->result.expired);
	assert_false(f->result.refused);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
	assert_closed(f, 0);
}

/*
 * It has accepted, and the rest is the destination's: other clients are told so. To see it fail:
 * leave handshake_was_answered() out of walk_expire().
 */
static void test_answered(void **state)
{
	struct fixture *f = *state;

	start_trial(f, UPSTREAM_SOCKS5, NEVER_MS, NEVER_MS);
	answer(f, 0, "A");
	wait_trial_over(f);
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_true(f->result.refused);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 0);
}

static void assert_cut_answer_fails(struct fixture *f, enum upstream_type type)
{
	group_of(f, 1, type);
	start(f);
	wait_greeted(f, 0, "HI\n");
	answer(f, 0, "A");
	pass(f);
	answer(f, 0, "H");
	pass(f);
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_false(f->result.refused);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
	assert_string_equal(health_of(f, "a").why, "its answer is incomplete");
	assert_closed(f, 0);
}

/*
 * An answer has begun, so the destination is no longer waited for. To see it fail: leave
 * handshake_is_partial() out of attempt_is_unanswered(), or partial out of
 * handshake_was_answered().
 */
static void test_half_an_answer(void **state)
{
	assert_cut_answer_fails(*state, UPSTREAM_SOCKS5);
}

static void test_half_an_answer_of_http(void **state)
{
	assert_cut_answer_fails(*state, UPSTREAM_HTTP);
}

/* So is the silence without an upstream, as with a PROXY header to the destination. */
static void test_direct_is_silent(void **state)
{
	struct fixture *f = *state;
	int clients[QUEUE];

	fill_tcp_backlog(f, 2, clients);
	add_upstream("all", UPSTREAM_DIRECT, NULL)->proxy_header = PROXY_HEADER_V2;
	start(f);
	assert_int_equal(f->done, 0);
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_true(f->result.refused);
	close_all(clients);
}

/* An HTTP proxy answers when it has connected: its silence may be the destination's. */
static void test_without_verdict(void **state)
{
	struct fixture *f = *state;

	group_of(f, 1, UPSTREAM_HTTP);
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_int_equal(health_of(f, "a").failed, 0);
}

/* The upstream "a" is silent. */
static void start_silent(struct fixture *f, enum upstream_type type, enum upstream_when_down policy)
{
	struct upstream_conf *group = group_of(f, 1, type);

	group->when_down = policy;
	group->down_wait_ms = 60000;
	start(f);
	wait_greeted(f, 0, "HI\n");
}

/*
 * The destination itself is dialled, with time of its own. It shows that the upstream was at fault,
 * an HTTP proxy too. To see it fail: leave wants_direct() out of dial_expire(), or
 * place_note_silence() out of expire_attempt().
 */
static void test_when_down_direct(void **state)
{
	struct fixture *f = *state;
	int i, k;

	walk_times.second_ms = 5;
	group_of(f, 1, UPSTREAM_HTTP)->when_down = UPSTREAM_DOWN_DIRECT;
	f->set = make_upstreams("all", NULL);
	/* The upstream has failed if it was silent for longer than the destination took. */
	for (i = 0; i < 50 && health_of(f, "a").state != HEALTH_DOWN; i++) {
		start(f);
		wait_greeted(f, 0, "HI\n");
		for (k = 0; k < 20; k++)
			pass(f);
		dial_expire(f->dial);
		assert_closed(f, 0);
		wait_done(f);
		assert_through(f, "direct", DESTINATION);
		close(TAKE_FD(f->server[DESTINATION]));
	}
	assert_int_equal(health_of(f, "a").state, HEALTH_DOWN);
	assert_true(i >= HEALTH_FAILURES);
}

/* Its error is the one that is told. */
static void test_when_down_direct_fails_too(void **state)
{
	struct fixture *f = *state;

	start_silent(f, UPSTREAM_SOCKS5, UPSTREAM_DOWN_DIRECT);
	close_server(f, DESTINATION);
	dial_expire(f->dial);
	wait_done(f);
	assert_int_equal(f->result.error, ECONNREFUSED);
	assert_true(f->result.refused);
	assert_int_equal(health_of(f, "a").failures[HEALTH_TIMEOUT], 1);
}

/* It has that time once. To see it fail: leave direct_error out of expire_attempt(). */
static void test_when_down_direct_expires_too(void **state)
{
	struct fixture *f = *state;
	int clients[QUEUE];

	fill_tcp_backlog(f, DESTINATION, clients);
	start_silent(f, UPSTREAM_HTTP, UPSTREAM_DOWN_DIRECT);
	assert_true(dial_expire(f->dial));
	assert_int_equal(f->done, 0);
	walk_times.answer_ms = 0;
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_true(f->result.refused);
	assert_true(f->result.expired);
	assert_int_equal(health_of(f, "a").failed, 0);
	close_all(clients);
}

/*
 * If it had too little time for an answer, its silence is not told to others. To see it fail: let
 * expire_attempt() set direct_error whenever it began.
 */
static void test_direct_that_began_late(void **state)
{
	struct fixture *f = *state;
	int clients[QUEUE];

	fill_tcp_backlog(f, DESTINATION, clients);
	start_silent(f, UPSTREAM_SOCKS5, UPSTREAM_DOWN_DIRECT);
	close_server(f, 0);
	pass_ms(f, 20);
	assert_int_equal(f->done, 0);
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ETIMEDOUT);
	assert_false(f->result.refused);
	close_all(clients);
}

/* The name of the upstream has no address until then. To see it fail: keep walk::unresolved. */
static void test_when_down_direct_without_address(void **state)
{
	struct fixture *f = *state;

	add_named(f, "all", "127.0.0.1:1", "127.0.0.1:1")->when_down = UPSTREAM_DOWN_DIRECT;
	resolver.n = 0;
	resolver.state = -EINPROGRESS;
	close_server(f, DESTINATION);
	start(f);
	dial_expire(f->dial);
	wait_done(f);
	assert_int_equal(f->result.error, ECONNREFUSED);
}

/* The stated error is told, and remembered. To see it fail: leave down_error out of end_silent().
 */
static void test_when_down_refuse(void **state)
{
	struct fixture *f = *state;

	group_of(f, 1, UPSTREAM_HTTP)->down_error = EHOSTUNREACH;
	start(f);
	wait_greeted(f, 0, "HI\n");
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, EHOSTUNREACH);
	assert_true(f->result.refused);
	assert_false(f->result.expired);
	assert_string_equal(f->why, "no answer");
}

/* The end of the time is that of the wait. To see it fail: leave the policy out of end_silent(). */
static void test_when_down_wait(void **state)
{
	struct fixture *f = *state;

	start_silent(f, UPSTREAM_SOCKS5, UPSTREAM_DOWN_WAIT);
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ECONNREFUSED);
	assert_true(f->result.refused);
	assert_false(f->result.expired);
	close_server(f, 0);
	start(f);
	while (health_of(f, "a").failures[HEALTH_CONNECT] == 0)
		pass(f);
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ECONNREFUSED);
	assert_string_equal(f->why, "Connection refused");
}

/*
 * The destination has refused a member `direct`: that answer stays. To see it fail: leave
 * direct_error out of dial_expire().
 */
static void test_answer_stays(void **state)
{
	struct fixture *f = *state;
	struct upstream_conf *group = group_of(f, 1, UPSTREAM_HTTP);

	walk_times.second_ms = 5;
	group->n_members = 2;
	strcpy(group->members[1].name, "direct");
	group->down_error = EHOSTUNREACH;
	close_server(f, DESTINATION);
	start(f);
	wait_greeted(f, 0, "HI\n");
	pass_ms(f, 50);
	assert_false(dial_expire(f->dial));
	assert_int_equal(f->result.error, ECONNREFUSED);
	assert_true(f->result.refused);
}

/* For clients that wait. To see it fail: return timeout_ms in any case. */
static void test_longest(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(dial_longest_ms(NULL, 30000), 30000);
	group_of(f, 1, UPSTREAM_HTTP);
	f->set = make_upstreams("all", NULL);
	assert_int_equal(dial_longest_ms(f->set, 30000), 30000);
	upstreams_unref(f->set);
	group_of(f, 1, UPSTREAM_HTTP)->when_down = UPSTREAM_DOWN_DIRECT;
	f->set = make_upstreams("all", NULL);
	assert_int_equal(dial_longest_ms(f->set, 30000), 60000);
}

/*
 * A reload that removes the last when-down = direct leaves dials that run as long as they were. To
 * see it fail: return longest_ms.
 */
static void test_limit_after_reload(void **state)
{
	struct fixture *f = *state;
	struct dial_limit limit = {};

	assert_int_equal(dial_limit_ms(&limit, NULL, 30000, 1000), 30000);
	group_of(f, 1, UPSTREAM_HTTP)->when_down = UPSTREAM_DOWN_DIRECT;
	f->set = make_upstreams("all", NULL);
	assert_int_equal(dial_limit_ms(&limit, f->set, 30000, 2000), 60000);
	assert_int_equal(dial_limit_ms(&limit, NULL, 30000, 3000), 60000);
	assert_int_equal(dial_limit_ms(&limit, NULL, 30000, 61999), 60000);
	assert_int_equal(dial_limit_ms(&limit, NULL, 30000, 62000), 30000);
	assert_int_equal(dial_limit_ms(&limit, NULL, 0, 62000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		dial_test(test_unanswered),
		dial_test(test_limit_after_reload),
		dial_test(test_answered),
		dial_test(test_half_an_answer),
		dial_test(test_half_an_answer_of_http),
		dial_test(test_direct_is_silent),
		dial_test(test_without_verdict),
		dial_test(test_when_down_direct),
		dial_test(test_when_down_direct_fails_too),
		dial_test(test_when_down_direct_expires_too),
		dial_test(test_direct_that_began_late),
		dial_test(test_when_down_direct_without_address),
		dial_test(test_when_down_refuse),
		dial_test(test_when_down_wait),
		dial_test(test_answer_stays),
		dial_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
