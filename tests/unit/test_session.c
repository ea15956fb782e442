// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/session.c between a client and a server on loopback (ends.h). There is no
 * worker: the test has the environment of the sessions, runs their event loop, and looks for
 * expired timeouts and for resets itself.
 */
#include <netinet/tcp.h>

#include "ends.h"
#include "session/pipes.h"
#include "upstream/handshake.h"
#include "upstream/route.h"

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

/*
 * A handshake: the relay says "HELLO <port>\n", where the port is that of the destination. The
 * upstream answers "OK\n" or "NO\n", and the relay thanks. Knows no session, socket or event.
 */
struct greeting {
	bool greeted;
	char line[8];
	size_t n;
};

static enum handshake_result greet(void *state, const union sockaddr_any *dst,
				   struct handshake_io *io)
{
	struct greeting *g = state;

	if (!g->greeted) {
		g->greeted = true;
		io->out_len = (size_t)snprintf((char *)io->out, sizeof(io->out), "HELLO %u\n",
					       ntohs(dst->in.sin_port));
		return HANDSHAKE_AGAIN;
	}
	for (io->taken = 0; io->taken < io->in_len;) {
		char c = (char)io->in[io->taken++];

		if (c != '\n') {
			g->line[g->n] = c;
			g->n = (g->n + 1) % sizeof(g->line);
			continue;
		}
		if (memcmp(g->line, "OK", 3) != 0) {
			io->error = ECONNREFUSED;
			return HANDSHAKE_ERROR;
		}
		memcpy(io->out, "THANKS\n", io->out_len = 7);
		return HANDSHAKE_DONE;
	}
	return HANDSHAKE_AGAIN;
}

static const struct handshake_ops greeting = {
	.name = "greeting",
	.state_size = sizeof(struct greeting),
	.step = greet,
};
static bool via_upstream;

/* Replaces the function of proxy/upstream/route.c. */
void route_of(const struct route_query *query, struct route *ret_route)
{
	*ret_route = (struct route){ .address = *query->dst };
	if (via_upstream)
		ret_route->handshake = &greeting;
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
	via_upstream = no_memory = false;
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

static void test_half_closed_timeout(void **state)
{
	struct fixture *f = *state;

	env.half_closed.timeout_ms = 100;
	start(f);
	shutdown(f->client, SHUT_WR);
	wait_ms(f, 300);
	assert_int_equal(closed(f, CLOSE_HALF_CLOSED_TIMEOUT), 1);
}

/* Starts a session with a handshake, and reads the greeting. */
static void start_greeted(struct fixture *f)
{
	char got[64] = "", wanted[64];

	via_upstream = true;
	start(f);
	snprintf(wanted, sizeof(wanted), "HELLO %u\n", ntohs(server_addr.sin_port));
	assert_int_equal(recv(f->server, got, sizeof(got) - 1, MSG_DONTWAIT), strlen(wanted));
	assert_string_equal(got, wanted);
	assert_int_equal(TAILQ_FIRST(&env.sessions)->phase, SESSION_HANDSHAKE);
}

static void send_text(struct fixture *f, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	turn(f);
}

static void assert_text(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT), strlen(text));
	assert_string_equal(got, text);
}

/*
 * A handshake of a few bytes, each in a segment of its own. What follows it in the last segment
 * reaches the client, and what the client sends meanwhile waits. Bytes of the handshake are not
 * counted. To see it fail: take more than handshake_io::taken from the socket; read from the client
 * in HANDSHAKE.
 */
static void test_handshake(void **state)
{
	struct fixture *f = *state;

	start_greeted(f);
	send_text(f, f->client, "request");
	send_text(f, f->server, "O");
	send_text(f, f->server, "K");
	assert_open(f->client);
	assert_open(f->server);
	send_text(f, f->server, "\nbanner");
	assert_text(f->client, "banner");
	assert_text(f->server, "THANKS\nrequest");
	assert_int_equal(TAILQ_FIRST(&env.sessions)->phase, SESSION_RELAYING);
	say(f, f->client, f->server, "more");
	say(f, f->server, f->client, "and more");
	shutdown(f->client, SHUT_WR);
	shutdown(f->server, SHUT_WR);
	turn(f);
	assert_end(f->client);
	assert_end(f->server);
	assert_int_equal(closed(f, CLOSE_DONE), 1);
	assert_int_equal(atomic_load(&env.stats.bytes_up), 11);
	assert_int_equal(atomic_load(&env.stats.bytes_down), 14);
}

/* What follows the handshake is more than a step sees, and ends with a FIN. */
static void test_handshake_then_much(void **state)
{
	static char sent[100 * 1024], got[sizeof(sent)];
	struct fixture *f = *state;
	size_t i, n = 0;
	ssize_t r;

	for (i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i * 7 + i / 251);
	start_greeted(f);
	assert_int_equal(send(f->server, "OK\n", 3, MSG_MORE), 3);
	assert_int_equal(send(f->server, sent, sizeof(sent), 0), sizeof(sent));
	shutdown(f->server, SHUT_WR);
	for (i = 0; i < 100 && n < sizeof(got); i++) {
		turn(f);
		while ((r = recv(f->client, got + n, sizeof(got) - n, MSG_DONTWAIT)) > 0)
			n += (size_t)r;
	}
	assert_int_equal(n, sizeof(sent));
	assert_memory_equal(got, sent, sizeof(sent));
	assert_end(f->client);
	close(TAKE_FD(f->client));
	turn(f);
	assert_int_equal(closed(f, CLOSE_DONE), 1);
}

/* An urgent byte right behind the handshake stays urgent. */
static void test_handshake_then_urgent(void **state)
{
	struct fixture *f = *state;
	const int on = 1;
	char byte;

	start_greeted(f);
	setsockopt(TAILQ_FIRST(&env.sessions)->upstream_fd, SOL_SOCKET, SO_OOBINLINE, &on,
		   sizeof(on));
	assert_int_equal(send(f->server, "OK\n", 3, MSG_MORE), 3);
	assert_int_equal(send(f->server, "!", 1, MSG_OOB), 1);
	turn(f);
	assert_int_equal(recv(f->client, &byte, 1, MSG_OOB | MSG_DONTWAIT), 1);
	assert_int_equal(byte, '!');
	close(TAKE_FD(f->client));
	close(TAKE_FD(f->server));
}

/* A FIN of the client waits until the handshake is done. */
static void test_half_close_in_handshake(void **state)
{
	struct fixture *f = *state;

	start_greeted(f);
	send_text(f, f->client, "all");
	shutdown(f->client, SHUT_WR);
	turn(f);
	assert_open(f->server);
	send_text(f, f->server, "OK\n");
	assert_text(f->server, "THANKS\nall");
	assert_end(f->server);
	send_text(f, f->server, "answer");
	assert_text(f->client, "answer");
	assert_open(f->client);
	shutdown(f->server, SHUT_WR);
	turn(f);
	assert_end(f->client);
	assert_int_equal(closed(f, CLOSE_DONE), 1);
}

/*
 * The client resets. None of its bytes reaches the upstream, which is reset. To see it fail: have
 * reset_by() flush in any phase.
 */
static void test_client_resets_in_handshake(void **state)
{
	struct fixture *f = *state;

	start_greeted(f);
	send_text(f, f->client, "secret");
	reset(&f->client);
	wait_ms(f, 50);
	assert_reset(f->server);
	assert_int_equal(closed(f, CLOSE_RESET_BY_CLIENT), 1);
}

static void assert_handshake_failed(struct fixture *f)
{
	turn(f);
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_CONNECT_FAILED), 1);
	assert_int_equal(atomic_load(&env.stats.bytes_down), 0);
}

/* Nothing of what the upstream has sent reaches the client, and the client sees no FIN. */
static void test_upstream_resets_in_handshake(void **state)
{
	struct fixture *f = *state;

	start_greeted(f);
	assert_int_equal(send(f->server, "O", 1, 0), 1);
	reset(&f->server);
	assert_handshake_failed(f);
}

static void test_upstream_ends_in_handshake(void **state)
{
	struct fixture *f = *state;

	start_greeted(f);
	assert_int_equal(send(f->server, "O", 1, 0), 1);
	shutdown(f->server, SHUT_WR);
	assert_handshake_failed(f);
}

static void test_upstream_refuses(void **state)
{
	struct fixture *f = *state;

	start_greeted(f);
	assert_int_equal(send(f->server, "NO\nbye", 6, 0), 6);
	assert_handshake_failed(f);
}

/* An upstream that sends without end is cut off. To see it fail: do not count in step(). */
static void test_handshake_without_end(void **state)
{
	static char block[HANDSHAKE_IN_MAX];
	struct fixture *f = *state;

	start_greeted(f);
	memset(block, 'x', sizeof(block));
	assert_int_equal(send(f->server, block, sizeof(block), 0), sizeof(block));
	assert_handshake_failed(f);
}

/* The timeout of connect() holds for the handshake too, whatever the upstream sends. */
static void test_handshake_timeout(void **state)
{
	struct fixture *f = *state;
	int i;

	env.connecting.timeout_ms = 300;
	start_greeted(f);
	for (i = 0; i < 10 && !closed(f, CLOSE_CONNECT_TIMEOUT); i++) {
		send(f->server, "x", 1, MSG_NOSIGNAL);
		wait_ms(f, 50);
	}
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_CONNECT_TIMEOUT), 1);
}

/*
 * TCP has no memory in the handshake: the relay tries again after a while and does not spin. To see
 * it spin without end: half_wait_write() in place of half_back_off() in run_handshake().
 */
static void test_handshake_that_cannot_send(void **state)
{
	struct fixture *f = *state;
	int passes, tried;

	via_upstream = no_memory = true;
	sends = 0;
	start(f);
	for (passes = 0; passes < 2000; passes++)
		event_base_loop(env.base, EVLOOP_NONBLOCK);
	tried = sends;
	no_memory = false;
	wait_ms(f, 50);
	send_text(f, f->server, "OK\n");
	send_text(f, f->client, "hi");
	shutdown(f->client, SHUT_WR);
	shutdown(f->server, SHUT_WR);
	turn(f);
	assert_int_equal(closed(f, CLOSE_DONE), 1);
	assert_int_equal(atomic_load(&env.stats.bytes_up), 2);
	assert_true(tried >= 2);
	assert_true(tried < 500);
}

/*
 * TCP has no memory for longer than the timeout. To see it fail: leave out progress::excused for
 * HANDSHAKE in expiry_is_over().
 */
static void test_handshake_that_never_sends(void **state)
{
	struct fixture *f = *state;

	env.connecting.timeout_ms = 100;
	via_upstream = no_memory = true;
	start(f);
	wait_ms(f, 500);
	no_memory = false;
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_CONNECT_TIMEOUT), 1);
}

#define session_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

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
		session_test(test_half_closed_timeout),
		session_test(test_handshake),
		session_test(test_handshake_then_much),
		session_test(test_handshake_then_urgent),
		session_test(test_half_close_in_handshake),
		session_test(test_client_resets_in_handshake),
		session_test(test_upstream_resets_in_handshake),
		session_test(test_upstream_ends_in_handshake),
		session_test(test_upstream_refuses),
		session_test(test_handshake_without_end),
		session_test(test_handshake_timeout),
		session_test(test_handshake_that_cannot_send),
		session_test(test_handshake_that_never_sends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
