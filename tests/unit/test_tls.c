// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests bridges (proxy/upstream/tls.c): the handshake, also with a server that does none, sessions
 * that are resumed, bytes and half-close both ways, and how each side learns of the other's end.
 */
#include "bridges.h"
#include "upstream/sock.h"

/* Reads up to the client's close_notify, and answers after that. */
static void serve_half_close(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[64] = "";
	int n = 0, r;

	while ((r = SSL_read(ssl, buf + n, (int)sizeof(buf) - 1 - n)) > 0)
		n += r;
	assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN);
	assert_string_equal(buf, "one two");
	SSL_write(ssl, "three", 5);
	SSL_shutdown(ssl);
	/* The upstream's socket ends with a FIN. */
	assert_int_equal(read(fd, buf, 1), 0);
	f.moved = 1;
	close(fd);
}

/*
 * Bytes and half-close both ways, with SNI. To see it fail: do not send close_notify in end_up();
 * do not pass the upstream's close_notify on in move_down().
 */
static void test_half_close(void **state)
{
	char buf[TLS_WHY_LEN];

	start_server(serve_half_close);
	start_bridge();
	say("one ");
	run_until(f.opened);
	assert_int_equal(f.stage, 1);
	say("two");
	assert_non_null(strstr(tls_bridge_describe(f.bridge, buf), "TLSv1."));
	shutdown(f.near, SHUT_WR);
	expect("three");
	expect_end();
	assert_int_equal(f.home.n, 1);
	close_near(/* reset= */ false);
	run_until(f.home.n == 0);
	join_server();
	assert_int_equal(f.moved, 1);
	assert_int_equal(f.failed, 0);
	assert_int_equal(f.ended, 1);
}

/* The numeric address of the certificate; no SNI then. */
static void test_address(void **state)
{
	use_context("127.0.0.1", ca_file, true);
	start_server(serve_half_close);
	start_bridge();
	say("one two");
	shutdown(f.near, SHUT_WR);
	expect("three");
	expect_end();
	assert_int_equal(f.stage, 0);
	close_near(/* reset= */ false);
	run_until(f.home.n == 0);
}

/* The bridge is closed by the callback itself. */
static void test_closed_in_callback(void **state)
{
	f.close_on_done = true;
	f.identity = &expired;
	start_server(serve_nothing);
	start_bridge();
	run_until(f.failed);
	assert_int_equal(f.home.n, 0);
}

static void serve_plain(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[64];

	if (write(fd, "SSH-2.0-no-TLS-here\r\n", 21) == 21)
		while (read(fd, buf, sizeof(buf)) > 0)
			;
	close(fd);
}

static void test_not_tls(void **state)
{
	f.identity = NULL;
	refused(serve_plain, "TLS: wrong version number");
}

static void serve_close(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8];

	assert_true(read(fd, buf, sizeof(buf)) > 0);
	shutdown(fd, SHUT_WR);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

static void test_closed_in_handshake(void **state)
{
	f.identity = NULL;
	start_server(serve_close);
	start_bridge();
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
}

/* Says something and ends without close_notify: with a FIN, or with a reset. */
static void serve_cut(struct fixture *fixture, SSL *ssl, int fd)
{
	SSL_write(ssl, "begun", 5);
	while (f.stage < 2)
		usleep(200);
	if (f.stage == 2)
		close(fd);
	else
		sock_close_reset(fd);
}

static void cut_off(int stage)
{
	char byte;

	start_server(serve_cut);
	start_bridge();
	expect("begun");
	f.stage = stage;
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
	assert_int_equal(recv(f.near, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

/* To see it fail: take a FIN for close_notify in move_down(). */
static void test_truncated(void **state)
{
	cut_off(2);
	assert_non_null(strstr(f.why, "without close_notify"));
}

static void test_reset(void **state)
{
	cut_off(3);
}

/* Says something and ends well, and what comes after that is answered by a reset. */
static void serve_goodbye(struct fixture *fixture, SSL *ssl, int fd)
{
	SSL_write(ssl, "begun", 5);
	end_well(ssl, fd);
}

/* To see it fail: leave SSL_ERROR_ZERO_RETURN out of the first test of fail_tls(). */
static void test_reset_after_end(void **state)
{
	start_server(serve_goodbye);
	start_bridge();
	expect("begun");
	expect_end();
	join_server();
	say("late");
	run_until(f.failed || send(f.near, "x", 1, MSG_NOSIGNAL) < 0);
	run_until(f.failed);
	assert_int_equal(f.error, ECONNRESET);
	assert_null(strstr(f.why, "close_notify"));
}

#define TICKETS 60

/* Sends tickets, as many as it likes, and then data. */
static void serve_tickets(struct fixture *fixture, SSL *ssl, int fd)
{
	int i;

	SSL_write(ssl, "begun", 5);
	while (f.stage < 2)
		usleep(200);
	for (i = 0; i < TICKETS; i++) {
		assert_int_equal(SSL_new_session_ticket(ssl), 1);
		assert_int_equal(SSL_do_handshake(ssl), 1);
	}
	SSL_write(ssl, "done", 4);
	f.stage = 3;
	end_well(ssl, fd);
}

/* Other connections get a turn between. To see it fail: let read_some() of tls_bio.c count nothing.
 */
static void test_tickets(void **state)
{
	char byte;

	start_server(serve_tickets);
	start_bridge();
	expect("begun");
	f.stage = 2;
	while (f.stage < 3)
		usleep(200);
	event_base_loop(f.base, EVLOOP_ONCE);
	assert_int_equal(recv(f.near, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	expect("done");
	expect_end();
}

/* Expects a reset. */
static void serve_reset(struct fixture *fixture, SSL *ssl, int fd)
{
	char byte;

	f.stage = 2;
	if (read(fd, &byte, 1) < 0 && errno == ECONNRESET)
		f.moved = 1;
	close(fd);
}

/* To see it fail: close with sock_close_well() in tls_bridge_close(). */
static void test_reset_upstream(void **state)
{
	start_server(serve_reset);
	start_bridge();
	run_until(f.opened && f.stage == 2);
	close_near(/* reset= */ true);
	assert_int_equal(f.home.n, 0);
	join_server();
	assert_int_equal(f.moved, 1);
}

static void serve_short(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8];

	SSL_write(ssl, "hello", 5);
	SSL_read(ssl, buf, sizeof(buf));
	end_well(ssl, fd);
}

/* Returns true if the connection resumed the session of an earlier one. */
static bool talk(bool reset)
{
	char buf[TLS_WHY_LEN];
	bool resumed;

	start_server(serve_short);
	start_bridge();
	expect("hello");
	resumed = strstr(tls_bridge_describe(f.bridge, buf), "resumed");
	if (!reset) {
		shutdown(f.near, SHUT_WR);
		expect_end();
	}
	close_near(reset);
	run_until(f.home.n == 0);
	join_server();
	return resumed;
}

/*
 * Also after a connection that was reset. To see it fail: no SSL_set_session() in
 * tls_context_connect().
 */
static void test_resumption(void **state)
{
	assert_false(talk(/* reset= */ false));
	assert_true(talk(/* reset= */ true));
	assert_true(talk(/* reset= */ false));
}

static void test_resumption_tls12(void **state)
{
	f.version = TLS1_2_VERSION;
	assert_false(talk(/* reset= */ false));
	assert_true(talk(/* reset= */ true));
	assert_true(talk(/* reset= */ false));
}

static void serve_urgent(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8] = "";
	int n = 0, r;

	while (n < 5 && (r = SSL_read(ssl, buf + n, (int)sizeof(buf) - 1 - n)) > 0)
		n += r;
	assert_string_equal(buf, "ab!cd");
	SSL_write(ssl, "done", 4);
	end_well(ssl, fd);
}

/* An urgent byte arrives in its place, as an ordinary one. To see it fail: no SO_OOBINLINE. */
static void test_urgent(void **state)
{
	start_server(serve_urgent);
	start_bridge();
	run_until(f.opened);
	say("ab");
	if (send(f.near, "!", 1, MSG_OOB) < 0)
		say("!"); /* a kernel without CONFIG_AF_UNIX_OOB */
	say("cd");
	expect("done");
	expect_end();
}

/* Reads 8 bytes, and waits. */
static void serve_password(struct fixture *fixture, SSL *ssl, int fd)
{
	char buf[8];

	if (SSL_read(ssl, buf, sizeof(buf)) == sizeof(buf))
		f.moved = 1;
	while (f.stage < 2)
		usleep(200);
	close(fd);
}

/* What was sent is not left in memory. To see it fail: no explicit_bzero() in move_up(). */
static void test_password(void **state)
{
	start_server(serve_password);
	start_bridge();
	say("password");
	run_until(f.moved);
	assert_null(memmem(f.home.scratch, 16 << 10, "word", 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		bridge_test(test_half_close),
		bridge_test(test_address),
		bridge_test(test_closed_in_callback),
		bridge_test(test_not_tls),
		bridge_test(test_closed_in_handshake),
		bridge_test(test_truncated),
		bridge_test(test_reset),
		bridge_test(test_reset_upstream),
		bridge_test(test_reset_after_end),
		bridge_test(test_tickets),
		bridge_test(test_resumption),
		bridge_test(test_resumption_tls12),
		bridge_test(test_urgent),
		bridge_test(test_password),
	};

	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
