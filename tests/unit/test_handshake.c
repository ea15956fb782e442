// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests sessions with a handshake before the relaying of bytes: the driver in
 * proxy/upstream/handshake.c, an attempt, and the phase DIALLING in proxy/session/opening.c. The
 * protocol is that of this file, in place of SOCKS5. Dials with several attempts are in
 * test_dial.c.
 */
#include <netinet/tcp.h>

#include "environment.h"
#include "upstream/handshake.h"
#include "upstreams.h"

/*
 * A handshake: the relay says "HELLO <port>\n", where the port is that of the destination. The
 * upstream answers "OK\n" or "NO\n", and the relay thanks. Knows no session, socket or event.
 */
struct greeting {
	bool greeted;
	char line[8];
	size_t n;
};

static enum handshake_result greet(void *state, const struct handshake_target *target,
				   struct handshake_io *io)
{
	struct greeting *g = state;

	if (!g->greeted) {
		g->greeted = true;
		io->out_len = (size_t)snprintf((char *)io->out, sizeof(io->out), "HELLO %u\n",
					       ntohs(target->dst->in.sin_port));
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

/* In place of the program's protocols. */
const struct handshake_ops socks5_ops = {
	.name = "greeting",
	.state_size = sizeof(struct greeting),
	.step = greet,
};
const struct handshake_ops http_connect_ops, proxy_header_ops;

static int setup_handshake(void **state)
{
	int r = setup(state);

	env.exempt = true;
	env.upstreams = one_upstream(UPSTREAM_SOCKS5, &server_addr);
	return r;
}

static int teardown_handshake(void **state)
{
	int r = teardown(state);

	upstreams_unref(env.upstreams);
	return r;
}

/* Starts a session with a handshake, and reads the greeting. */
static void start_greeted(struct fixture *f)
{
	char got[64] = "", wanted[64];

	start(f);
	snprintf(wanted, sizeof(wanted), "HELLO %u\n", ntohs(server_addr.sin_port));
	assert_int_equal(recv(f->server, got, sizeof(got) - 1, MSG_DONTWAIT), strlen(wanted));
	assert_string_equal(got, wanted);
	assert_int_equal(TAILQ_FIRST(&env.sessions)->phase, SESSION_DIALLING);
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
 * in DIALLING.
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

/*
 * After the handshake the server's bytes are acknowledged at once, as those of a direct connection:
 * it may write twice, with Nagle's algorithm. To see it fail: do not pass acks_late on.
 */
static void test_acks_after_handshake(void **state)
{
	struct fixture *f = *state;
	socklen_t len = sizeof(int);
	int quick = 0;

	start_greeted(f);
	send_text(f, f->server, "OK\n");
	assert_text(f->server, "THANKS\n");
	assert_int_equal(getsockopt(session_upstream_fd(TAILQ_FIRST(&env.sessions)), IPPROTO_TCP,
				    TCP_QUICKACK, &quick, &len),
			 0);
	assert_int_equal(quick, 1);
	close(TAKE_FD(f->client));
	close(TAKE_FD(f->server));
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

/* An urgent byte right after the handshake stays urgent. */
static void test_handshake_then_urgent(void **state)
{
	struct fixture *f = *state;
	char byte;

	start_greeted(f);
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
 * The client resets. None of its bytes reaches the upstream, which is reset. Either of two things
 * is enough. To see it fail: have session_reset_by() flush in any phase, and leave pump::dst_fd as
 * it is in dial().
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
 * it spin without end: wait for EV_WRITE in place of EV_TIMEOUT in make_handshakes().
 */
static void test_handshake_that_cannot_send(void **state)
{
	struct fixture *f = *state;
	int passes, tried;

	no_memory = true;
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
 * DIALLING in expiry_is_over().
 */
static void test_handshake_that_never_sends(void **state)
{
	struct fixture *f = *state;

	env.connecting.timeout_ms = 100;
	no_memory = true;
	start(f);
	wait_ms(f, 500);
	no_memory = false;
	assert_reset(f->client);
	assert_int_equal(closed(f, CLOSE_CONNECT_TIMEOUT), 1);
}

#define handshake_test(test)                                                                       \
	cmocka_unit_test_setup_teardown(test, setup_handshake, teardown_handshake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		handshake_test(test_handshake),
		handshake_test(test_acks_after_handshake),
		handshake_test(test_handshake_then_much),
		handshake_test(test_handshake_then_urgent),
		handshake_test(test_half_close_in_handshake),
		handshake_test(test_client_resets_in_handshake),
		handshake_test(test_upstream_resets_in_handshake),
		handshake_test(test_upstream_ends_in_handshake),
		handshake_test(test_upstream_refuses),
		handshake_test(test_handshake_without_end),
		handshake_test(test_handshake_timeout),
		handshake_test(test_handshake_that_cannot_send),
		handshake_test(test_handshake_that_never_sends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
