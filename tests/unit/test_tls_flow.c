// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests what a bridge does when an end takes nothing more (proxy/upstream/tls_flow.c, tls.c): how
 * little it reads then, which piece it keeps, and that this piece arrives, whoever ends meanwhile.
 * Each byte has its place in a pattern.
 */
#include "bridges.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "upstream/sock.h"

static char pattern(size_t i)
{
	return (char)(i * 31 + i / 251 + i / 65521);
}

#define MUCH (4 << 20)

/* Sends much, then reads as much, when it is told to. */
static void serve_much(struct fixture *fixture, SSL *ssl, int fd)
{
	static char buf[50000];
	size_t n, i;
	int r;

	for (n = 0; n < MUCH; n += (size_t)r) {
		size_t len = MUCH - n < sizeof(buf) ? MUCH - n : sizeof(buf);

		for (i = 0; i < len; i++)
			buf[i] = pattern(n + i);
		r = SSL_write(ssl, buf, (int)len);
		assert_true(r > 0);
		f.moved += (size_t)r;
	}
	while (f.stage < 2)
		usleep(200);
	for (n = 0; (r = SSL_read(ssl, buf, sizeof(buf))) > 0; n += (size_t)r) {
		for (i = 0; i < (size_t)r; i++)
			assert_int_equal(buf[i], pattern(n + i));
	}
	assert_int_equal(n, MUCH);
	assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN);
	f.stage = 3;
	end_well(ssl, fd);
}

static uint64_t cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* The loop sleeps: a bridge that waits for others takes no time, once it has done what it can. */
static void assert_idle(void)
{
	const struct timeval delay = { .tv_usec = 50000 };
	uint64_t before;
	int i;

	for (i = 0; i < 40; i++) {
		before = cpu_us();
		event_base_loopexit(f.base, &delay);
		event_base_loop(f.base, EVLOOP_NO_EXIT_ON_EMPTY);
		if (cpu_us() - before < 20000)
			return;
	}
	fail_msg("the loop does not sleep");
}

/* Runs the loop until nothing moves any more. */
static void settle(size_t (*moved)(void))
{
	size_t before;
	int i;

	do {
		before = moved();
		for (i = 0; i < 20; i++) {
			event_base_loop(f.base, EVLOOP_NONBLOCK);
			usleep(1000);
		}
	} while (moved() != before);
}

static size_t moved_down(void)
{
	return f.moved;
}

static void drain_near(void)
{
	static char buf[30000];
	size_t n = 0, i;
	ssize_t r;

	while (n < MUCH) {
		run_until((r = recv(f.near, buf, sizeof(buf), 0)) >= 0);
		for (i = 0; i < (size_t)r; i++)
			assert_int_equal(buf[i], pattern(n + i));
		n += (size_t)r;
	}
}

/* Writes to the near end until it is full. Returns false when everything is written. */
static bool fill_near(size_t *n)
{
	static char buf[30000];
	size_t i, len = MUCH - *n < sizeof(buf) ? MUCH - *n : sizeof(buf);
	ssize_t r;

	for (i = 0; i < len; i++)
		buf[i] = pattern(*n + i);
	r = len ? send(f.near, buf, len, MSG_NOSIGNAL) : 0;
	if (r > 0)
		*n += (size_t)r;
	return *n < MUCH;
}

/*
 * Back-pressure each way: while nobody reads, little is read, and the bridge sleeps. Everything
 * arrives, also what was in the pair when the near end was closed. To see it fail: in move_down(),
 * read although a piece is kept; in tls_bridge_close(), end the bridge.
 */
static void back_pressure(int version)
{
	size_t written = 0, i;

	f.version = version;
	start_server(serve_much);
	start_bridge();
	run_until(f.home.n_blocked == 1);
	settle(moved_down);
	assert_int_equal(f.opened, 1);
	assert_int_equal(f.home.n_blocked, 1);
	assert_true(f.moved < MUCH);
	assert_idle();
	drain_near();
	settle(moved_down);
	for (i = 0; i < 1000 && fill_near(&written); i++)
		event_base_loop(f.base, EVLOOP_NONBLOCK);
	assert_true(written < MUCH);
	assert_idle();
	f.stage = 2;
	run_until(!fill_near(&written));
	close_near(/* reset= */ false);
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.stage, 3);
	assert_int_equal(f.failed, 0);
}

static void test_back_pressure(void **state)
{
	back_pressure(0);
}

static void test_back_pressure_tls12(void **state)
{
	back_pressure(TLS1_2_VERSION);
}

/* The most that the bridge takes from the pair at once: a full record. */
#define PIECE (16 << 10)

/* Reads to the end. Returns the number of bytes, or 0 if one is wrong or the end is no end. */
static size_t read_pattern(SSL *ssl)
{
	static char buf[PIECE];
	size_t n = 0, i;
	bool good = true;
	int r;

	while ((r = SSL_read(ssl, buf, sizeof(buf))) > 0) {
		for (i = 0; i < (size_t)r; i++)
			good &= buf[i] == pattern(n + i);
		n += (size_t)r;
	}
	return good && SSL_get_error(ssl, r) == SSL_ERROR_ZERO_RETURN ? n : 0;
}

/* Reads when it is told to: stage 2; at stage 3 it ends its own direction before that. */
static void serve_late(struct fixture *fixture, SSL *ssl, int fd)
{
	const uint64_t until = monotonic_coarse_ms() + LOOP_WAIT_MS;

	SSL_write(ssl, "go", 2);
	while (f.stage < 2)
		usleep(200);
	if (f.stage == 3)
		SSL_shutdown(ssl);
	while (f.stage == 3 && monotonic_coarse_ms() < until)
		usleep(200);
	f.moved = read_pattern(ssl);
	SSL_write(ssl, "late", 4);
	end_well(ssl, fd);
	f.stage = 4;
}

/* Sends n pieces to the near end, from the offset on. */
static void say_pieces(size_t offset, size_t n)
{
	static char buf[PIECE];
	size_t i;

	for (; n > 0; n--, offset += PIECE) {
		for (i = 0; i < PIECE; i++)
			buf[i] = pattern(offset + i);
		assert_int_equal(send(f.near, buf, PIECE, MSG_NOSIGNAL), PIECE);
	}
}

/* The upstream's socket, while another one is in its place that takes nothing. */
static struct {
	int fd;		  /* its number, which the bridge uses */
	int socket, peer; /* the socket itself; the far end of the other one */
} blocked;

static int find_write_event(const struct event_base *base, const struct event *event, void *data)
{
	const bool found = event_get_fd(event) == blocked.fd && event_get_events(event) & EV_WRITE;

	if (found)
		*(const struct event **)data = event;
	return found;
}

/* Returns the event by which the bridge waits until the socket takes more, or NULL. */
static struct event *write_event(void)
{
	const struct event *event = NULL;

	event_base_foreach_event(f.base, find_write_event, &event);
	return (struct event *)event;
}

static bool pair_is_empty(void)
{
	int queued;

	return ioctl(f.near, SIOCOUTQ, &queued) == 0 && queued == 0;
}

/* Opens a bridge, and lets its socket take nothing. */
static void start_blocked(void)
{
	static const char full[PIECE];
	int pair[2];

	start_server(serve_late);
	start_bridge();
	/* Nothing arrives any more that cannot be read meanwhile. */
	expect("go");
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), errno);
	while (send(pair[0], full, sizeof(full), MSG_NOSIGNAL) > 0)
		;
	blocked.fd = tls_bridge_fd(f.bridge);
	blocked.socket = dup(blocked.fd);
	blocked.peer = pair[1];
	assert_int_equal(dup2(pair[0], blocked.fd), blocked.fd);
	close(pair[0]);
}

/* The upstream's socket is back. Its events come, but that it can be written to must be told. */
static void unblock(void)
{
	assert_int_equal(dup2(blocked.socket, blocked.fd), blocked.fd);
	close(blocked.socket);
	close(blocked.peer);
}

static void tell_writable(void)
{
	assert_non_null(write_event());
	event_active(write_event(), EV_WRITE, 0);
}

/* Lets the bridge keep a piece, while the pair is empty. */
static void start_keeping(void)
{
	start_blocked();
	say_pieces(0, 1);
	run_until(pair_is_empty() && write_event());
}

/*
 * The client ends its direction when the socket is full: close_notify waits. To see it fail: let
 * end_up() take every result of SSL_shutdown() for success.
 */
static void test_full_client_ends(void **state)
{
	start_blocked();
	shutdown(f.near, SHUT_WR);
	run_until(write_event());
	unblock();
	tell_writable();
	f.stage = 2;
	expect("late");
	expect_end();
}

/*
 * The client ends its direction while the bridge keeps a piece. To see it fail: let move_up() free
 * the piece if the far end of the pair is at its end.
 */
static void test_kept_client_ends(void **state)
{
	start_keeping();
	shutdown(f.near, SHUT_WR);
	unblock();
	tell_writable();
	f.stage = 2;
	expect("late");
	expect_end();
	join_server();
	assert_int_equal(f.moved, PIECE);
}

/*
 * The upstream ends its direction while the bridge keeps a piece for it. To see it fail: let
 * move_down() free up.kept at close_notify; let move_up() do nothing if down.eof is set.
 */
static void test_kept_upstream_ends(void **state)
{
	struct pollfd arrival = { .events = POLLIN };

	start_keeping();
	f.stage = 3;
	arrival.fd = blocked.socket;
	assert_int_equal(poll(&arrival, 1, LOOP_WAIT_MS), 1);
	unblock();
	expect_end();
	say_pieces(PIECE, 2);
	shutdown(f.near, SHUT_WR);
	f.stage = 2;
	run_until(f.stage == 4);
	assert_int_equal(f.moved, 3 * PIECE);
}

/* The near end is closed. To see it fail: let tls_bridge_close() free what is kept. */
static void test_kept_closed(void **state)
{
	start_keeping();
	close_near(/* reset= */ false);
	unblock();
	tell_writable();
	f.stage = 2;
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.moved, PIECE);
}

/*
 * The last byte and the end of the pair are the end of a turn: close_notify is for the next one.
 * To see it fail: let move() end a closed bridge at up.eof.
 */
static void test_closed_after_full_turn(void **state)
{
	start_server(serve_late);
	start_bridge();
	expect("go");
	say_pieces(0, 7);
	close_near(/* reset= */ false);
	f.stage = 2;
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.moved, 7 * PIECE);
}

/* Sends a piece for each that is asked for. At stage 2 it ends well, after the client's end. */
static void serve_pieces(struct fixture *fixture, SSL *ssl, int fd)
{
	static char buf[PIECE];
	size_t i;

	while (f.stage < 2) {
		if (f.moved == f.asked) {
			usleep(200);
			continue;
		}
		for (i = 0; i < PIECE; i++)
			buf[i] = pattern(f.moved + i);
		if (SSL_write(ssl, buf, PIECE) == PIECE)
			f.moved += PIECE;
	}
	SSL_shutdown(ssl);
	read_pattern(ssl);
	end_well(ssl, fd);
	f.stage = 3;
}

/*
 * Client and upstream both end their directions while the bridge keeps a piece that the client has
 * not read. To see it fail: let move_up() free down.kept at the end of the pair; let move_down()
 * free it if close_notify was sent.
 */
static void test_kept_down(void **state)
{
	static char buf[PIECE];
	size_t n, i;
	int queued;
	ssize_t r;

	start_server(serve_pieces);
	start_bridge();
	run_until(f.opened);
	while (f.home.n_blocked == 0) {
		f.asked += PIECE;
		run_until(f.home.n_blocked ||
			  (f.moved == f.asked &&
			   ioctl(tls_bridge_fd(f.bridge), SIOCINQ, &queued) == 0 && queued == 0));
	}
	shutdown(f.near, SHUT_WR);
	f.stage = 2;
	run_until(f.stage == 3);
	for (n = 0; n < f.moved; n += (size_t)r) {
		run_until((r = recv(f.near, buf, sizeof(buf), 0)) >= 0 || f.failed);
		assert_true(r > 0);
		for (i = 0; i < (size_t)r; i++)
			assert_int_equal(buf[i], pattern(n + i));
	}
	expect_end();
	assert_int_equal(f.failed, 0);
}

static void serve_blocked_reset(struct fixture *fixture, SSL *ssl, int fd)
{
	static const char buf[16384];

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (f.stage < 2) {
		int r = SSL_write(ssl, buf, sizeof(buf));

		if (r > 0)
			f.moved += (size_t)r;
		else
			usleep(200);
	}
	sock_close_reset(fd);
}

/* A reset is noticed although nothing is read. To see it fail: do not add tls_home::probe. */
static void test_blocked_reset(void **state)
{
	start_server(serve_blocked_reset);
	start_bridge();
	run_until(f.home.n_blocked == 1);
	settle(moved_down);
	assert_int_equal(f.home.n_blocked, 1);
	f.stage = 2;
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
	assert_int_equal(f.home.n_blocked, 0);
}

static void serve_unread(struct fixture *fixture, SSL *ssl, int fd)
{
	while (f.stage < 2)
		usleep(200);
	close(fd);
}

/* tls_home_stop() ends what would take long. */
static void test_stop(void **state)
{
	size_t written = 0, i;

	start_server(serve_unread);
	start_bridge();
	run_until(f.opened);
	for (i = 0; i < 1000 && fill_near(&written); i++)
		event_base_loop(f.base, EVLOOP_NONBLOCK);
	close_near(/* reset= */ false);
	assert_idle();
	assert_int_equal(f.home.n, 1);
	tls_home_stop(&f.home);
	assert_int_equal(f.home.n, 0);
	f.stage = 2;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		bridge_test(test_back_pressure),	  bridge_test(test_back_pressure_tls12),
		bridge_test(test_full_client_ends),	  bridge_test(test_kept_client_ends),
		bridge_test(test_kept_upstream_ends),	  bridge_test(test_kept_closed),
		bridge_test(test_closed_after_full_turn), bridge_test(test_kept_down),
		bridge_test(test_blocked_reset),	  bridge_test(test_stop),
	};

	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
