// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/session.c: ends, resets and timeouts of sessions (environment.h). Sessions
 * with a handshake are in test_handshake.c.
 */
#include "environment.h"

/*
 * New sessions count for the accept throttle until they have keepalive. To see it fail: count no
 * events in note_event(), or those of all sessions.
 */
static void test_new_sessions_are_load(void **state)
{
	struct fixture *f = *state;
	uint64_t served;

	start(f);
	say(f, f->client, f->server, "new");
	assert_int_equal(env.admission.sessions, 1);
	served = env.admission.served;
	assert_true(served > 0);
	session_start_keepalive(TAILQ_FIRST(&env.sessions));
	say(f, f->client, f->server, "not any more");
	assert_int_equal(env.admission.sessions, 0);
	assert_int_equal(env.admission.served, served);
	close(TAKE_FD(f->client));
	close(TAKE_FD(f->server));
}

static void test_half_close_by_client(void **state)
{
	struct fixture *f = *state;

	start(f);
	say(f, f->client, f->server, "request");
	shutdown(f->client, SHUT_WR);
	turn(f);
	assert_end(f->server);
	assert_open(f->client);
	say(f, f->server, f->client, "answer after the end");
	shutdown(f->server, SHUT_WR);
	turn(f);
	assert_end(f->client);
	assert_int_equal(closed(f, CLOSE_DONE), 1);
	assert_int_equal(atomic_load(&env.stats.bytes_up), 7);
	assert_int_equal(atomic_load(&env.stats.bytes_down), 20);
}

static void test_half_close_by_server(void **state)
{
	struct fixture *f = *state;

	start(f);
	say(f, f->server, f->client, "banner");
	shutdown(f->server, SHUT_WR);
	turn(f);
	assert_end(f->client);
	say(f, f->client, f->server, "still here");
	shutdown(f->client, SHUT_WR);
	turn(f);
	assert_end(f->server);
	assert_int_equal(closed(f, CLOSE_DONE), 1);
}

static void test_reset_by_client(void **state)
{
	struct fixture *f = *state;

	start(f);
	say(f, f->client, f->server, "x");
	reset(&f->client);
	turn(f);
	assert_reset(f->server);
	assert_int_equal(closed(f, CLOSE_RESET_BY_CLIENT), 1);
}

/* A server that closes with a part of the request unread sends its answer, then a reset. */
static void test_reset_by_server_after_data(void **state)
{
	struct fixture *f = *state;
	char got[64] = "";

	start(f);
	assert_int_equal(send(f->server, "413", 3, 0), 3);
	reset(&f->server);
	turn(f);
	assert_int_equal(recv(f->client, got, sizeof(got), MSG_DONTWAIT), 3);
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_RESET_BY_SERVER), 1);
}

/* After a side's FIN nothing is read from it, so only a probe detects its reset. */
static void test_reset_after_half_close(void **state)
{
	struct fixture *f = *state;

	start(f);
	shutdown(f->client, SHUT_WR);
	turn(f);
	assert_end(f->server);
	reset(&f->client);
	wait_ms(f, 300);
	assert_int_equal(closed(f, CLOSE_RESET_BY_CLIENT), 1);
	assert_int_equal(send(f->server, "x", 1, MSG_NOSIGNAL), -1);
}

/*
 * TCP has no memory: send() fails while poll reports the socket as writable. To see it fail:
 * half_wait_write() in place of half_back_off() in half_run().
 */
static void test_writable_that_takes_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t begun_ms, waited_ms;
	char got[8] = "";
	int turns;

	start(f);
	assert_int_equal(send(f->client, "late", 4, 0), 4);
	no_memory = true;
	sends = 0;
	begun_ms = monotonic_coarse_ms();
	for (turns = 0; turns < 2000; turns++)
		event_base_loop(env.base, EVLOOP_NONBLOCK);
	wait_ms(f, 50);
	waited_ms = monotonic_coarse_ms() - begun_ms;
	no_memory = false;
	assert_true(sends >= 2);
	/* Two calls for each back-off: at its end, and when poll reports the socket again. */
	assert_true((uint64_t)sends <= 4 + waited_ms / 5);
	wait_ms(f, 50);
	assert_int_equal(recv(f->server, got, sizeof(got), MSG_DONTWAIT), 4);
	say(f, f->client, f->server, "more");
	close(TAKE_FD(f->client));
	close(TAKE_FD(f->server));
}

static void test_no_destination(void **state)
{
	struct fixture *f = *state;

	origdst_result = ORIGDST_NOT_REDIRECTED;
	start(f);
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_NO_DESTINATION), 1);
}

static void test_connect_failed(void **state)
{
	struct fixture *f = *state;

	close(f->server_listener);
	f->server_listener = -1;
	start(f);
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_CONNECT_FAILED), 1);
}

static void test_idle_timeout(void **state)
{
	struct fixture *f = *state;

	env.idle.timeout_ms = 1000;
	start(f);
	wait_ms(f, 600);
	say(f, f->client, f->server, "still alive");
	wait_ms(f, 600);
	assert_open(f->client); /* the timeout starts again with each byte */
	wait_ms(f, 1000);
	assert_reset(f->client);
	assert_reset(f->server);
	assert_int_equal(closed(f, CLOSE_IDLE_TIMEOUT), 1);
}

/*
 * The thread stands still for longer than the timeout, twice, and both times data wait when it goes
 * on (I11). To see it fail: do not clear progress::excused in progress_check().
 */
static void test_late_thread_ends_no_session(void **state)
{
	struct fixture *f = *state;
	char got;
	int i;

	start(f);
	env.idle.timeout_ms = 100;
	for (i = 0; i < 2; i++) {
		assert_int_equal(send(f->client, "x", 1, 0), 1);
		usleep(150000); /* the time is under test */
		expire(&env.idle, CLOSE_IDLE_TIMEOUT);
		assert_int_equal(closed(f, CLOSE_IDLE_TIMEOUT), 0);
		turn(f);
		assert_int_equal(recv(f->server, &got, 1, MSG_DONTWAIT), 1);
	}
	reset(&f->client);
}

static void test_half_closed_timeout(void **state)
{
	struct fixture *f = *state;

	env.half_closed.timeout_ms = 100;
	start(f);
	shutdown(f->client, SHUT_WR);
	wait_ms(f, 300);
	assert_int_equal(closed(f, CLOSE_HALF_CLOSED_TIMEOUT), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		session_test(test_new_sessions_are_load),
		session_test(test_half_close_by_client),
		session_test(test_half_close_by_server),
		session_test(test_reset_by_client),
		session_test(test_reset_by_server_after_data),
		session_test(test_reset_after_half_close),
		session_test(test_writable_that_takes_nothing),
		session_test(test_no_destination),
		session_test(test_connect_failed),
		session_test(test_idle_timeout),
		session_test(test_late_thread_ends_no_session),
		session_test(test_half_closed_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
