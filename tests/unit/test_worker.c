// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/worker/: the timer, turns of bulk, hand-over to the bulk worker, the limit, and what
 * happens when sessions end. Sessions run between a client and a server on loopback (ends.h). The
 * test itself runs the loop of the worker.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "ends.h"
#include "worker/worker.h"

static const struct worker_config config = {
	.buffer_size = 64 << 10,
	.pipe_size = 512 << 10,
	.pipes_max = 1,
	.timeouts = { .keepalive_ms = 300000 },
};

static struct worker worker;
static struct worker_shared shared;

static void reserve(void)
{
	assert_true(limit_reserve(&shared.limit));
}

static void need_tick(void)
{
	tick_need(&worker.tick);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	shared = (struct worker_shared){ .limit.max = 10 };
	assert_int_equal(worker_init(&worker, &config, &shared, eventfd(0, 0)), 0);
	worker.tick.most_ms = 10;
	ends_init(f, &worker.env);
	f->before_session = reserve;
	f->after_session = need_tick;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ends_finish(f);
	assert_int_equal(atomic_load(&shared.limit.sessions), 0);
	close(worker.done_fd);
	worker_finish(&worker);
	free(f);
	return 0;
}

#define MANY 6

/* Starts sessions whose client has sent its FIN: nothing is read from that side. */
static void start_unpolled(struct fixture *f, int clients[MANY], int servers[MANY])
{
	int i;

	for (i = 0; i < MANY; i++) {
		start(f);
		shutdown(f->client, SHUT_WR);
		clients[i] = TAKE_FD(f->client);
		servers[i] = TAKE_FD(f->server);
	}
	turn(f);
	assert_int_equal(worker.env.n_unpolled, MANY);
}

/*
 * A tick probes walk_most sessions at most, each in its turn, and the next tick follows soon.
 * Sessions that were not reset stay. To see it fail: probe all of session_env::unpolled in each
 * tick (more than one is found at a time), or always start with its first (those behind it are
 * never found).
 */
static void test_probes_take_turns(void **state)
{
	struct fixture *f = *state;
	int clients[MANY], servers[MANY], i;
	uint64_t found = 0, before;

	worker.tick.walk_most = 1;
	start_unpolled(f, clients, servers);
	for (i = 0; i < MANY; i += 2)
		reset(&clients[i]);
	for (i = 0; i < 100 && found < MANY / 2; i++) {
		before = found;
		event_base_loop(worker.env.base, EVLOOP_ONCE);
		found = closed(f, CLOSE_RESET_BY_CLIENT);
		assert_true(found - before <= 1);
	}
	assert_int_equal(found, MANY / 2);
	assert_int_equal(worker.env.n_unpolled, MANY / 2);
	for (i = 0; i < MANY; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

/*
 * Sessions get keepalive oldest first, here one in each tick. To see it fail: start it on all of
 * them in start_keepalive().
 */
static void test_keepalive_takes_turns(void **state)
{
	struct fixture *f = *state;
	int clients[MANY], servers[MANY], i;
	uint32_t before;

	worker.tick.most_ms = 60000;
	worker.tick.walk_most = 1;
	for (i = 0; i < MANY; i++) {
		start(f);
		clients[i] = TAKE_FD(f->client);
		servers[i] = TAKE_FD(f->server);
	}
	assert_int_equal(worker.env.admission.sessions, MANY);
	event_active(worker.tick.timer, EV_TIMEOUT, 1);
	for (i = 0; i < 100 && worker.env.admission.sessions; i++) {
		before = worker.env.admission.sessions;
		event_base_loop(worker.env.base, EVLOOP_ONCE);
		assert_true(before - worker.env.admission.sessions <= 1);
		assert_true(TAILQ_FIRST(&worker.env.sessions)->has_keepalive ==
			    !worker.env.admission.sessions);
	}
	assert_int_equal(worker.env.admission.sessions, 0);
	for (i = 0; i < MANY; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

static void test_limit(void **state)
{
	int i;

	for (i = 0; i < 10; i++)
		assert_true(limit_reserve(&shared.limit));
	assert_false(limit_reserve(&shared.limit));
	limit_release(&shared.limit);
	assert_true(limit_reserve(&shared.limit));
	for (i = 0; i < 10; i++)
		limit_release(&shared.limit);
}

/* Starts a session in bulk mode with data waiting to be moved. */
static struct half *start_bulk(struct fixture *f, int fds[2])
{
	static char block[256 * 1024];
	struct half *h;

	start(f);
	h = &TAILQ_FIRST(&worker.env.sessions)->c2s;
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

/* Waits: on a busy machine the kernel delivers what was sent somewhat later. */
static bool is_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 5000) == 1;
}

/*
 * An iteration of the loop runs one bulk transfer, 128 KiB of it, and all interactive sessions. To
 * see it fail: call run() at once in half_on_ready(), or make TURN_BYTES larger.
 */
static void test_small_talk_beside_bulk(void **state)
{
	struct fixture *f = *state;
	struct half *bulk[3];
	int fds[3][2], i, turns;
	struct half *small;

	for (i = 0; i < 3; i++)
		bulk[i] = start_bulk(f, fds[i]);
	start(f);
	small = &TAILQ_FIRST(&worker.env.sessions)->c2s;
	for (turns = 0; turns < 100; turns++) {
		uint64_t before = 0, after = 0;
		char byte = 0;

		for (i = 0; i < 3; i++) {
			queue_more(fds[i][0]);
			drain_fd(fds[i][1]);
			before += bulk[i]->pump.bytes;
		}
		assert_int_equal(send(f->client, "x", 1, 0), 1);
		assert_true(is_readable(small->pump.src_fd));
		event_base_loop(worker.env.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		for (i = 0; i < 3; i++)
			after += bulk[i]->pump.bytes;
		assert_true(after - before <= (128 + 64) * 1024);
		assert_true(is_readable(f->server));
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
 * and the waits of its halves. Small messages bring it back. To see it fail: leave out
 * handoff_receive(), half_detach() or half_attach().
 */
static void test_handed_over(void **state)
{
	struct fixture *f = *state;
	struct worker bulk;
	struct session *s;
	int fds[2][2], i;

	assert_int_equal(worker_init(&bulk, &config, &shared, worker.done_fd), 0);
	worker_pair(&worker, &bulk);
	start_bulk(f, fds[0]); /* not the only one */
	s = half_session(start_bulk(f, fds[1]));
	/* Nobody reads, until there is something in the pipe. */
	for (i = 0; i < 500 && !s->c2s.pump.in_pipe; i++) {
		s->handoff = 0;
		queue_more(fds[1][0]);
		event_base_loop(worker.env.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	assert_ptr_equal(s->env, &worker.env);
	assert_non_null(s->c2s.pump.pipe);
	for (i = 0; i < 100 && s->env != &bulk.env; i++) {
		queue_more(fds[1][0]);
		event_base_loop(worker.env.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		s->handoff = 100;
		drain_fd(fds[1][1]);
	}
	event_base_loop(bulk.env.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	assert_ptr_equal(s->env, &bulk.env);
	assert_ptr_equal(TAILQ_FIRST(&bulk.env.sessions), s);
	for (i = 0; i < 300 && s->env == &bulk.env; i++) {
		drain_fd(fds[1][1]);
		usleep(1000);
		send(fds[1][0], "x", 1, MSG_DONTWAIT);
		event_base_loop(bulk.env.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		event_base_loop(worker.env.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	assert_ptr_equal(s->env, &worker.env);
	assert_true(TAILQ_EMPTY(&bulk.env.sessions));
	for (i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	turn(f);
	/* They share one pool, whose limit is one pipe. */
	assert_all_came_back(&worker.pipes);
	assert_int_equal(worker.pipes.made, 1);
	assert_int_equal(bulk.pipes.made, 0);
	worker.handoff.partner = NULL;
	worker_finish(&bulk);
}

/*
 * The same between the threads of both workers, several times, for ThreadSanitizer. Both are
 * stopped while one session is the bulk worker's.
 */
static void test_threads_hand_over(void **state)
{
	struct fixture *f = *state;
	struct worker bulk;
	int fds[2][2], i, round;

	assert_int_equal(worker_init(&bulk, &config, &shared, worker.done_fd), 0);
	worker_pair(&worker, &bulk);
	for (i = 0; i < 2; i++)
		start_bulk(f, fds[i]);
	assert_int_equal(worker_start(&worker), 0);
	assert_int_equal(worker_start(&bulk), 0);
	for (round = 0; round < 4; round++) {
		drain_fd(fds[1][1]);
		for (i = 0; i < 100; i++) {
			send(fds[1][0], "x", 1, MSG_DONTWAIT);
			usleep(200);
			drain_fd(fds[1][1]);
		}
		for (i = 0; i < 100; i++) {
			queue_more(fds[1][0]);
			usleep(200);
			drain_fd(fds[1][1]);
		}
	}
	worker_stop(&worker);
	worker_stop(&bulk);
	worker_join(&worker);
	worker_join(&bulk);
	assert_int_equal(closed(f, CLOSE_DRAIN_TIMEOUT) +
				 atomic_load(&bulk.env.stats.closed[CLOSE_DRAIN_TIMEOUT]),
			 2);
	assert_true(atomic_load(&bulk.env.stats.closed[CLOSE_DRAIN_TIMEOUT]) > 0);
	for (i = 0; i < 2; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	worker_finish(&bulk);
}

/*
 * A session that ends does not resume its worker's listeners at once: one of them may be accepting
 * just then. That is done when all ready events have run. To see it fail: call listener_resume() in
 * on_session_end().
 */
static void test_an_end_resumes_listeners_later(void **state)
{
	struct fixture *f = *state;
	struct listener *l = &worker.listeners[0];
	struct sockaddr_in addr;
	int fd, other = socket(AF_INET, SOCK_STREAM, 0);

	shared.limit.max = 1;
	start(f);
	fd = listen_on(&addr);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	listener_init(l, &worker.listening, AF_INET, &(struct listener_fds){ fd, -1, -1 }, 1);
	/* Its upstream socket needs no mark. */
	l->spare.exempt = true;
	l->spare.since_exempt_check = 1;
	assert_int_equal(connect(other, (struct sockaddr *)&addr, sizeof(addr)), 0);
	event_base_loop(worker.env.base, EVLOOP_NONBLOCK);
	assert_true(l->paused);
	session_destroy(TAILQ_FIRST(&worker.env.sessions), CLOSE_DONE);
	assert_true(l->paused);
	origdst_result = ORIGDST_NOT_REDIRECTED;
	event_base_loop(worker.env.base, EVLOOP_NONBLOCK);
	assert_false(l->paused);
	turn(f);
	assert_int_equal(closed(f, CLOSE_NO_DESTINATION), 1);
	close(other);
}

#define EXPIRE_MAX 256 /* as in tick.c */
#define SILENT	   (EXPIRE_MAX + 4)

/* Starts a session whose server does not accept it. Returns the client. */
static int start_silent(const struct fixture *f, int listener, const struct sockaddr_in *addr)
{
	int client = socket(AF_INET, SOCK_STREAM, 0);
	union sockaddr_any peer;
	socklen_t len = sizeof(peer);

	assert_int_equal(connect(client, (const struct sockaddr *)addr, sizeof(*addr)), 0);
	f->before_session();
	session_create(f->env, accept4(listener, &peer.sa, &len, SOCK_NONBLOCK),
		       socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), &peer,
		       /* under_load= */ false);
	return client;
}

/*
 * A tick ends EXPIRE_MAX sessions of a queue, and the next tick follows soon. To see it fail: let
 * expire() in tick.c end all.
 */
static void test_expiry_takes_turns(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in addr;
	int listener = listen_on(&addr), clients[SILENT], i;

	shared.limit.max = SILENT;
	assert_int_equal(listen(f->server_listener, SILENT), 0);
	for (i = 0; i < SILENT; i++)
		clients[i] = start_silent(f, listener, &addr);
	turn(f);
	worker.env.idle.timeout_ms = worker.env.connecting.timeout_ms = 20;
	usleep(50000); /* the time is under test */
	event_active(worker.tick.timer, EV_TIMEOUT, 1);
	event_base_loop(worker.env.base, EVLOOP_ONCE);
	assert_int_equal(closed(f, CLOSE_IDLE_TIMEOUT), EXPIRE_MAX);
	need_tick();
	turn(f);
	assert_int_equal(closed(f, CLOSE_IDLE_TIMEOUT), SILENT);
	for (i = 0; i < SILENT; i++)
		close(clients[i]);
	close(listener);
}

#define ACCEPT_MAX 64 /* as in listener.c */
#define BURST	   (ACCEPT_MAX + 6)

/* The listener never checks whether its upstream sockets need a mark. */
static void (*worker_on_end)(struct session_env *env);

static void on_end_exempt(struct session_env *env)
{
	worker.listeners[0].spare.since_exempt_check = 1;
	worker_on_end(env);
}

/*
 * An iteration of the loop accepts ACCEPT_MAX clients of a socket, and the sessions that run are
 * served before the next ones. To see it fail: let on_client() accept until the backlog is empty.
 */
static void test_a_burst_takes_turns(void **state)
{
	struct fixture *f = *state;
	struct listener *l = &worker.listeners[0];
	struct sockaddr_in addr;
	int fd, clients[BURST], i;

	origdst_result = ORIGDST_NOT_REDIRECTED;
	fd = listen_on(&addr);
	assert_int_equal(listen(fd, BURST), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (i = 0; i < BURST; i++) {
		clients[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(clients[i], (struct sockaddr *)&addr, sizeof(addr)), 0);
	}
	listener_init(l, &worker.listening, AF_INET, &(struct listener_fds){ fd, -1, -1 }, 1);
	l->spare.exempt = true;
	l->spare.since_exempt_check = 1;
	worker_on_end = worker.env.on_end;
	worker.env.on_end = on_end_exempt;
	event_base_loop(worker.env.base, EVLOOP_ONCE);
	assert_int_equal(closed(f, CLOSE_NO_DESTINATION), ACCEPT_MAX);
	turn(f);
	assert_int_equal(closed(f, CLOSE_NO_DESTINATION), BURST);
	for (i = 0; i < BURST; i++)
		close(clients[i]);
}

#define session_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		session_test(test_probes_take_turns),
		session_test(test_keepalive_takes_turns),
		session_test(test_limit),
		session_test(test_small_talk_beside_bulk),
		session_test(test_handed_over),
		session_test(test_threads_hand_over),
		session_test(test_an_end_resumes_listeners_later),
		session_test(test_expiry_takes_turns),
		session_test(test_a_burst_takes_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
