/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sessions without a worker, for tests: the test has their environment, runs their event loop, and
 * looks for expired timeouts and for resets itself. Between a client and a server on loopback
 * (ends.h). Included by one file of each test program.
 */
#ifndef TPROXY_ENVIRONMENT_H
#define TPROXY_ENVIRONMENT_H

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
static struct spin_owner spin_owner;
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
	no_memory = false;
	quota_init(&shared.per_cgroup);
	pipes_init(&pipes, 1, 512 << 10);
	env = (struct session_env){
		.base = event_base_new(),
		.shared = &shared,
		.marks = MARKS_NULL,
		.spin = { .owner = &spin_owner },
		.pump_env = { .pipes = &pipes,
			      .scratch = malloc(64 << 10),
			      .scratch_size = 64 << 10,
			      .turn_bytes = 128 << 10 },
		.on_end = on_end,
	};
	env_init(&env);
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
	free(env.pump_env.scratch);
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
		if (!TAILQ_EMPTY(&env.unpolled))
			session_probe(TAILQ_FIRST(&env.unpolled));
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

static inline void assert_end(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

static inline void assert_reset(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
}

static inline void assert_open(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

#define session_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
