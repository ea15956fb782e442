// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/ack.c with TCP connections on loopback whose kernel delays acknowledgements,
 * as it does after an answer. I10: no client waits for a delayed acknowledgement.
 */
#include "session/ack.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

#define CLIENTS 3

struct fixture {
	int listener;
	int ends[CLIENTS]; /* the clients' */
	int fds[CLIENTS];  /* ours */
	struct ack acks[CLIENTS];
	struct ack_queue queue;
};

static struct fixture fixture;

static int fd_of(const struct ack *ack)
{
	return fixture.fds[ack - fixture.acks];
}

static int setup(void **state)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(addr);
	const int off = 0;
	int i, fd;

	fixture = (struct fixture){ .listener = socket(AF_INET, SOCK_STREAM, 0) };
	fd = fixture.listener;
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(fd, CLIENTS), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	ack_queue_init(&fixture.queue, fd_of);
	for (i = 0; i < CLIENTS; i++) {
		fixture.ends[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(fixture.ends[i], (struct sockaddr *)&addr, len), 0);
		fd = fixture.fds[i] = accept(fixture.listener, NULL, NULL);
		assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off)), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	int i;

	for (i = 0; i < CLIENTS; i++) {
		close(fixture.ends[i]);
		close(fixture.fds[i]);
	}
	close(fixture.listener);
	return 0;
}

static bool is_acknowledged_at_once(const struct ack *ack)
{
	socklen_t len = sizeof(int);
	int on = -1;

	assert_int_equal(getsockopt(fd_of(ack), IPPROTO_TCP, TCP_QUICKACK, &on, &len), 0);
	return on;
}

/* Several clients wait when the thread sleeps. To see it fail: let ack_send() send only one. */
static void test_all_are_sent(void **state)
{
	int i;

	for (i = 0; i < CLIENTS; i++) {
		assert_false(is_acknowledged_at_once(&fixture.acks[i]));
		ack_owe(&fixture.queue, &fixture.acks[i]);
	}
	ack_send(&fixture.queue, /* all= */ true);
	assert_int_equal(fixture.queue.n, 0);
	for (i = 0; i < CLIENTS; i++) {
		assert_true(is_acknowledged_at_once(&fixture.acks[i]));
		assert_null(fixture.acks[i].entry.le_prev);
	}
}

/* A thread that does not sleep sends them after 1 ms. To see it fail: set OWED_NS to 100 ms. */
static void test_busy_thread(void **state)
{
	ack_owe(&fixture.queue, &fixture.acks[0]);
	usleep(2000); /* the time is under test */
	ack_send(&fixture.queue, /* all= */ false);
	assert_true(is_acknowledged_at_once(&fixture.acks[0]));
	assert_int_equal(fixture.queue.n, 0);
}

/* The answer carried the acknowledgement. To see it fail: leave the entry on the queue. */
static void test_answered(void **state)
{
	ack_owe(&fixture.queue, &fixture.acks[0]);
	ack_owe(&fixture.queue, &fixture.acks[1]);
	ack_owe(&fixture.queue, &fixture.acks[1]);
	assert_int_equal(fixture.queue.n, 2);
	ack_forget(&fixture.queue, &fixture.acks[1]);
	ack_forget(&fixture.queue, &fixture.acks[1]);
	assert_int_equal(fixture.queue.n, 1);
	ack_send(&fixture.queue, /* all= */ true);
	assert_true(is_acknowledged_at_once(&fixture.acks[0]));
	assert_false(is_acknowledged_at_once(&fixture.acks[1]));
}

#define ack_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ack_test(test_all_are_sent),
		ack_test(test_busy_thread),
		ack_test(test_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
