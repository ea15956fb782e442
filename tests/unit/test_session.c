// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/session.c between a client and a server on loopback (ends.h). There is no
 * worker: the test has the environment of the sessions, runs their event loop, and looks for
 * expired timeouts and for resets itself.
 */
#include "ends.h"
#include "session/pipes.h"

/* Replaces the C library's function, to act as if TCP had no memory. */
static bool no_memory;
static int sends;

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	if (!no_memory)
		return sendto(fd, data, len, flags, NULL, 0);
	sends++;
	errno = EAGAIN;
	return -1;
}

static struct session_env env;
static struct session_shared shared;
static struct pipes pipes;
static struct busypoll_turn looking;
static int started, ended; /* sessions; ended: calls of session_env::on_end */

static void on_end(struct session_env *of)
{
	assert_ptr_equal(of, &env);
	ended++;
}

static void note_start(void)
{
	started++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	started = ended = 0;
	quota_init(&shared.per_cgroup);
	pipes_init(&pipes, 1, 512 << 10);
	env = (struct session_env){
		.base = event_base_new(),
		.shared = &shared,
		.handle = REGISTRATION_HANDLE_NULL,
		.busypoll = { .turn = &looking },
		.tools = { .pipes = &pipes,
			   .scratch = malloc(64 << 10),
			   .scratch_size = 64 << 10,
			   .turn_bytes = 128 << 10 },
		.on_end = on_end,
	};
	session_env_init(&env);
	/* Each test of a timeout shortens that timeout. */
	env.connecting.timeout_ms = env.idle.timeout_ms = env.half_closed.timeout_ms = 60000;
	ends_init(f, &env);
	f->before_session = note_start;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ends_finish(f);
	assert_int_equal(ended, started);
	event_base_free(env.base);
	free(env.tools.scratch);
	pipes_finish(&pipes);
	quota_finish(&shared.per_cgroup);
	free(f);
	return 0;
}

static void expire(struct deadline_queue *queue, enum close_reason reason)
{
	struct deadline *d;

	while ((d = deadline_expired(queue, monotonic_coarse_ms())))
		session_expire((struct session *)((char *)d - offsetof(struct session, deadline)),
			       reason);
}

/* What a worker's timer does (proxy/worker/tick.c), every millisecond. */
static void wait_ms(struct fixture *f, int ms)
{
	uint64_t end = monotonic_coarse_ms() + (uint64_t)ms;

	while (monotonic_coarse_ms() < end) {
		event_base_loop(env.base, EVLOOP_NONBLOCK);
		expire(&env.connecting, CLOSE_CONNECT_TIMEOUT);
		expire(&env.idle, CLOSE_IDLE_TIMEOUT);
		expire(&env.half_closed, CLOSE_HALF_CLOSED_TIMEOUT);
		if (!TAILQ_EMPTY(&env.deaf))
			session_probe(TAILQ_FIRST(&env.deaf));
		usleep(1000);
	}
}

static void say(struct fixture *f, int from, int to, const char *text)
{
	char got[64] = "";

	assert_int_equal(send(from, text, strlen(text), 0), strlen(text));
	turn(f);
	assert_int_equal(recv(to, got, sizeof(got) - 1, MSG_DONTWAIT), strlen(text));
	assert_string_equal(got, text);
}

static void assert_end(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

static void assert_reset(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void assert_open(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/*
 * New sessions count for the accept throttle until they are settled. To see it red: count no events
 * in woke(), or those of all sessions.
 */
static void test_new_ones_are_a_crowd(void **state)
{
	struct fixture *f = *state;
	uint64_t served;

	start(f);
	say(f, f->client, f->server, "new");
	assert_int_equal(env.crowd.sessions, 1);
	served = env.crowd.served;
	assert_true(served > 0);
	session_settle(TAILQ_FIRST(&env.sessions));
	say(f, f->client, f->server, "not any more");
	assert_int_equal(env.crowd.sessions, 0);
	assert_int_equal(env.crowd.served, served);
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
 * TCP has no memory: send() fails while poll reports the socket as writable. To see it red:
 * wait_write() in place of back_off() in half_run().
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

static void test_dial_failed(void **state)
{
	struct fixture *f = *state;

	close(f->server_listener);
	f->server_listener = -1;
	start(f);
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_DIAL_FAILED), 1);
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

static void test_half_closed_timeout(void **state)
{
	struct fixture *f = *state;

	env.half_closed.timeout_ms = 100;
	start(f);
	shutdown(f->client, SHUT_WR);
	wait_ms(f, 300);
	assert_int_equal(closed(f, CLOSE_HALF_CLOSED_TIMEOUT), 1);
}

#define session_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		session_test(test_new_ones_are_a_crowd),
		session_test(test_half_close_by_client),
		session_test(test_half_close_by_server),
		session_test(test_reset_by_client),
		session_test(test_reset_by_server_after_data),
		session_test(test_reset_after_half_close),
		session_test(test_writable_that_takes_nothing),
		session_test(test_no_destination),
		session_test(test_dial_failed),
		session_test(test_idle_timeout),
		session_test(test_half_closed_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
