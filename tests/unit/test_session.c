// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/session.c between a client and a server on loopback. The test itself runs the
 * loop of the worker. No BPF: origdst_get() below supplies the original destination.
 */
#include "session/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/origdst.h"
#include "monotonic.h"
#include "options.h"
#include "session/sock.h"
#include "unit.h"
#include "util.h"
#include "worker/worker.h"

static struct sockaddr_in server_addr;
static int origdst_result;

/* Replaces the function of proxy/kernel/origdst.c. */
int origdst_get(int fd, sa_family_t family, union sockaddr_any *ret_dst,
		struct tproxy_conn *ret_conn)
{
	*ret_conn = (struct tproxy_conn){};
	ret_dst->in = server_addr;
	return origdst_result;
}

int origdst_get_conn(int fd, struct tproxy_conn *ret_conn)
{
	return -ENOENT;
}

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

struct fixture {
	struct worker worker;
	struct worker_limit limit;
	int done_fd;
	int client; /* the redirected program's socket, blocking */
	int server; /* the server's accepted socket, -1 until then */
	int server_listener;
};

static int listen_on(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*addr = (struct sockaddr_in){ .sin_family = AF_INET,
				      .sin_addr = { htonl(INADDR_LOOPBACK) } };
	assert_int_equal(bind(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

static void turn(struct fixture *f)
{
	int i;

	/*
	 * Everything is on loopback, so what one side does reaches the other within a few
	 * iterations.
	 */
	for (i = 0; i < 20; i++) {
		event_base_loop(f->worker.base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
}

static void start(struct fixture *f)
{
	struct sockaddr_in addr;
	union sockaddr_any peer;
	socklen_t len = sizeof(peer);
	int listener = listen_on(&addr), accepted;

	f->client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(f->client, (struct sockaddr *)&addr, sizeof(addr)), 0);
	accepted = accept4(listener, &peer.sa, &len, SOCK_NONBLOCK);
	close(listener);
	assert_true(worker_reserve_session(&f->worker));
	session_create(&f->worker, accepted, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), &peer,
		       /* crowded= */ false);
	turn(f);
	if (f->server_listener >= 0 && origdst_result == ORIGDST_FOUND) {
		fcntl(f->server_listener, F_SETFL, O_NONBLOCK);
		f->server = accept(f->server_listener, NULL, NULL);
	}
}

static int setup(void **state)
{
	const struct options options = {
		.buffer_size = 64 << 10,
		.pipe_size = 512 << 10,
		.keepalive_ms = 300000,
		.connect_timeout_ms = 60000,
		.idle_timeout_ms = 60000,
		.half_closed_timeout_ms = 60000,
	};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	f->limit.max = 10;
	f->done_fd = eventfd(0, 0);
	f->client = f->server = -1;
	f->server_listener = listen_on(&server_addr);
	origdst_result = ORIGDST_FOUND;
	assert_int_equal(worker_init(&f->worker, &options, &f->limit, 1, f->done_fd), 0);
	/* Each test of a timeout shortens that timeout. */
	f->worker.tick_most_ms = 10;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	/* No test may leave a session behind. */
	turn(f);
	assert_true(TAILQ_EMPTY(&f->worker.sessions));
	assert_int_equal(atomic_load(&f->limit.sessions), 0);
	assert_int_equal(f->worker.crowd.sessions, 0);
	assert_int_equal(f->worker.n_deaf, 0);
	assert_null(f->worker.unsettled);
	worker_finish(&f->worker);
	close(f->done_fd);
	close(f->client);
	close(f->server);
	close(f->server_listener);
	free(f);
	return 0;
}

static uint64_t closed(const struct fixture *f, enum close_reason reason)
{
	return atomic_load(&f->worker.stats.closed[reason]);
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

static void reset(int *fd)
{
	sock_close_reset(*fd);
	*fd = -1;
}

/*
 * New sessions count for the accept throttle until they are settled. To see it red: count no events
 * in woke(), or those of all sessions.
 */
static void test_new_ones_are_a_crowd(void **state)
{
	struct fixture *f = *state;
	uint64_t served;

	f->worker.tick_most_ms = 60000;
	start(f);
	say(f, f->client, f->server, "new");
	assert_int_equal(f->worker.crowd.sessions, 1);
	served = f->worker.crowd.served;
	assert_true(served > 0);
	session_settle(TAILQ_FIRST(&f->worker.sessions));
	say(f, f->client, f->server, "not any more");
	assert_int_equal(f->worker.crowd.sessions, 0);
	assert_int_equal(f->worker.crowd.served, served);
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
	assert_int_equal(atomic_load(&f->worker.stats.bytes_up), 7);
	assert_int_equal(atomic_load(&f->worker.stats.bytes_down), 20);
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

static void wait_ms(struct fixture *f, int ms)
{
	uint64_t end = monotonic_coarse_ms() + (uint64_t)ms;

	while (monotonic_coarse_ms() < end) {
		event_base_loop(f->worker.base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
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
		event_base_loop(f->worker.base, EVLOOP_NONBLOCK);
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

#define MANY 6

/* Starts sessions whose client has sent its FIN: nothing is read from that side. */
static void start_deaf(struct fixture *f, int clients[MANY], int servers[MANY])
{
	int i;

	for (i = 0; i < MANY; i++) {
		start(f);
		shutdown(f->client, SHUT_WR);
		clients[i] = TAKE_FD(f->client);
		servers[i] = TAKE_FD(f->server);
	}
	turn(f);
	assert_int_equal(f->worker.n_deaf, MANY);
}

/*
 * A tick probes walk_most sessions at most, each in its turn, and the next tick follows soon.
 * Sessions that were not reset stay. To see it red: probe all of worker::deaf in each tick (more
 * than one is found at a time), or always start with its first (those behind it are never found).
 */
static void test_probes_take_turns(void **state)
{
	struct fixture *f = *state;
	int clients[MANY], servers[MANY], i;
	uint64_t found = 0, before;

	f->worker.walk_most = 1;
	start_deaf(f, clients, servers);
	for (i = 0; i < MANY; i += 2)
		reset(&clients[i]);
	for (i = 0; i < 100 && found < MANY / 2; i++) {
		before = found;
		event_base_loop(f->worker.base, EVLOOP_ONCE);
		found = closed(f, CLOSE_RESET_BY_CLIENT);
		assert_true(found - before <= 1);
	}
	assert_int_equal(found, MANY / 2);
	assert_int_equal(f->worker.n_deaf, MANY / 2);
	for (i = 0; i < MANY; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

/*
 * Sessions are settled oldest first, here one in each tick. To see it red: settle all of them in
 * settle().
 */
static void test_settling_takes_turns(void **state)
{
	struct fixture *f = *state;
	int clients[MANY], servers[MANY], i;
	uint32_t before;

	f->worker.tick_most_ms = 60000;
	f->worker.walk_most = 1;
	for (i = 0; i < MANY; i++) {
		start(f);
		clients[i] = TAKE_FD(f->client);
		servers[i] = TAKE_FD(f->server);
	}
	assert_int_equal(f->worker.crowd.sessions, MANY);
	event_active(f->worker.tick, EV_TIMEOUT, 1);
	for (i = 0; i < 100 && f->worker.crowd.sessions; i++) {
		before = f->worker.crowd.sessions;
		event_base_loop(f->worker.base, EVLOOP_ONCE);
		assert_true(before - f->worker.crowd.sessions <= 1);
		assert_true(TAILQ_FIRST(&f->worker.sessions)->settled == !f->worker.crowd.sessions);
	}
	assert_int_equal(f->worker.crowd.sessions, 0);
	for (i = 0; i < MANY; i++) {
		close(clients[i]);
		close(servers[i]);
	}
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

	f->worker.idle.timeout_ms = 1000;
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

	f->worker.half_closed.timeout_ms = 100;
	start(f);
	shutdown(f->client, SHUT_WR);
	wait_ms(f, 300);
	assert_int_equal(closed(f, CLOSE_HALF_CLOSED_TIMEOUT), 1);
}

static void test_limit(void **state)
{
	struct fixture *f = *state;
	int i;

	for (i = 0; i < 10; i++)
		assert_true(worker_reserve_session(&f->worker));
	assert_false(worker_reserve_session(&f->worker));
	worker_release_session(&f->worker);
	assert_true(worker_reserve_session(&f->worker));
	for (i = 0; i < 10; i++)
		worker_release_session(&f->worker);
}

/* Starts a session in bulk mode with data waiting to be moved. */
static struct half *start_bulk(struct fixture *f, int fds[2])
{
	static char block[256 * 1024];
	struct half *h;

	start(f);
	h = &TAILQ_FIRST(&f->worker.sessions)->up;
	h->pump.full_reads = 2;
	assert_int_equal(send(f->client, block, sizeof(block), 0), sizeof(block));
	fds[0] = TAKE_FD(f->client);
	fds[1] = TAKE_FD(f->server);
	return h;
}

static void queue_more(int fd)
{
	static char block[64 * 1024];

	while (send(fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
}

static void drain_fd(int fd)
{
	static char block[1024 * 1024];

	while (recv(fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
}

/*
 * An iteration of the loop runs one bulk transfer, 128 KiB of it, and all interactive sessions. To
 * see it red: call run() at once in on_ready(), or make TURN_BYTES larger.
 */
static void test_small_talk_beside_bulk(void **state)
{
	struct fixture *f = *state;
	struct half *bulk[3];
	int fds[3][2], i, turns;

	for (i = 0; i < 3; i++)
		bulk[i] = start_bulk(f, fds[i]);
	start(f);
	for (turns = 0; turns < 100; turns++) {
		uint64_t before = 0, after = 0;
		char byte = 0;

		for (i = 0; i < 3; i++) {
			queue_more(fds[i][0]);
			drain_fd(fds[i][1]);
			before += bulk[i]->pump.bytes;
		}
		assert_int_equal(send(f->client, "x", 1, 0), 1);
		event_base_loop(f->worker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		for (i = 0; i < 3; i++)
			after += bulk[i]->pump.bytes;
		assert_true(after - before <= (128 + 64) * 1024);
		assert_int_equal(recv(f->server, &byte, 1, MSG_DONTWAIT), 1);
	}
	for (i = 0; i < 3; i++) {
		assert_true(bulk[i]->pump.bytes > 2 * 1024 * 1024);
		close(fds[i][0]);
		close(fds[i][1]);
	}
	close(TAKE_FD(f->client));
	close(TAKE_FD(f->server));
}

static void assert_all_came_back(const struct pipes *pipes)
{
	const struct pipe *pipe;
	uint32_t n = 0;

	SLIST_FOREACH (pipe, &pipes->idle, next)
		n++;
	assert_int_equal(n, pipes->made);
}

/*
 * A session that takes turn after turn of bulk goes to the bulk worker, with a pipe that is full
 * and what its halves wait for; small talk brings it back. To see it red: leave out
 * handoff_receive(), half_detach() or half_attach().
 */
static void test_handed_over(void **state)
{
	struct fixture *f = *state;
	const struct options options = { .buffer_size = 64 << 10, .pipe_size = 512 << 10 };
	struct worker bulk;
	struct session *s;
	int fds[2][2], i;

	assert_int_equal(worker_init(&bulk, &options, &f->limit, 1, f->done_fd), 0);
	worker_pair(&f->worker, &bulk);
	start_bulk(f, fds[0]); /* not the only one */
	s = start_bulk(f, fds[1])->session;
	/* Nobody reads, until there is something in the pipe. */
	for (i = 0; i < 500 && !s->up.pump.piped; i++) {
		s->handoff = 0;
		queue_more(fds[1][0]);
		event_base_loop(f->worker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	assert_ptr_equal(s->worker, &f->worker);
	assert_non_null(s->up.pump.pipe);
	for (i = 0; i < 100 && s->worker != &bulk; i++) {
		queue_more(fds[1][0]);
		event_base_loop(f->worker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		s->handoff = 100;
		drain_fd(fds[1][1]);
	}
	event_base_loop(bulk.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	assert_ptr_equal(s->worker, &bulk);
	assert_ptr_equal(TAILQ_FIRST(&bulk.sessions), s);
	for (i = 0; i < 300 && s->worker == &bulk; i++) {
		drain_fd(fds[1][1]);
		usleep(1000);
		send(fds[1][0], "x", 1, MSG_DONTWAIT);
		event_base_loop(bulk.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		event_base_loop(f->worker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	assert_ptr_equal(s->worker, &f->worker);
	assert_true(TAILQ_EMPTY(&bulk.sessions));
	for (i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	turn(f);
	/* They share one pool, whose limit is one pipe. */
	assert_all_came_back(&f->worker.pipes);
	assert_int_equal(f->worker.pipes.made, 1);
	assert_int_equal(bulk.pipes.made, 0);
	f->worker.partner = NULL;
	worker_finish(&bulk);
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
		session_test(test_probes_take_turns),
		session_test(test_settling_takes_turns),
		session_test(test_no_destination),
		session_test(test_dial_failed),
		session_test(test_idle_timeout),
		session_test(test_half_closed_timeout),
		session_test(test_limit),
		session_test(test_small_talk_beside_bulk),
		session_test(test_handed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
