// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the wait for a client's first bytes, between two sockets on loopback: a hello that is split
 * at every byte, clients that are silent, slow, closed or reset, and the socket afterwards.
 */
#include "unit.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hello.h"
#include "monotonic.h"
#include "upstream/sniff.h"
#include "util.h"

/* Seconds that the clocks are fast. */
static time_t later_s;

/* Replaces the C library's function. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	const int r = (int)syscall(SYS_clock_gettime, clock, ts);

	ts->tv_sec += later_s;
	return r;
}

struct fixture {
	struct event_base *base;
	int client, accepted;
	struct sniff_silent silent;
	union sockaddr_any dst;
	uint32_t uid;
	struct sniff *sniff;
	struct sniffed sniffed;
	enum sniff_result result;
	bool over;
	uint64_t ms; /* that the wait took */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->base = event_base_new();
	f->client = f->accepted = -1;
	sniff_silent_init(&f->silent);
	f->dst.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(443) };
	f->dst.in.sin_addr.s_addr = htonl(0xc0000201);
	*state = f;
	return 0;
}

static void disconnect(struct fixture *f)
{
	if (f->sniff)
		sniff_end(f->sniff, NULL);
	f->sniff = NULL;
	close(f->client);
	close(f->accepted);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	disconnect(f);
	event_base_free(f->base);
	free(f);
	return 0;
}

/* A new client, with the option that the relay's listeners have. */
static void connect_client(struct fixture *f)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	disconnect(f);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	f->client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(f->client, (struct sockaddr *)&addr, len), 0);
	setsockopt(f->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	f->accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(f->accepted >= 0);
	close(listener);
}

static void on_done(void *arg)
{
	struct fixture *f = arg;

	assert_false(f->over);
	f->over = true;
	event_base_loopbreak(f->base);
}

static enum sniff_result begin(struct fixture *f)
{
	const struct sniff_request request = {
		.base = f->base,
		.fd = f->accepted,
		.dst = &f->dst,
		.uid = f->uid,
		.silent = &f->silent,
		.done = on_done,
		.arg = f,
	};

	f->over = false;
	f->result = sniff_begin(&request, &f->sniff, &f->sniffed);
	return f->result;
}

/* Runs the loop until the wait is over, and ends it. */
static enum sniff_result finish(struct fixture *f)
{
	const uint64_t start = monotonic_kernel_ns();

	while (!f->over)
		event_base_loop(f->base, EVLOOP_ONCE);
	f->ms = (monotonic_kernel_ns() - start) / 1000000;
	f->result = sniff_end(f->sniff, &f->sniffed);
	f->sniff = NULL;
	return f->result;
}

/* Handles what is ready. Returns how many events there were. */
static int turn(struct fixture *f)
{
	int turns = 0;

	while (!f->over && event_base_loop(f->base, EVLOOP_NONBLOCK) == 0 && turns < 5)
		turns++;
	return turns;
}

static void say(struct fixture *f, const void *data, size_t len)
{
	assert_int_equal(send(f->client, data, len, 0), len);
}

/* Nothing was consumed, and the socket reports every byte again. */
static void assert_untouched(struct fixture *f, const void *data, size_t len)
{
	uint8_t got[HELLO_ROOM];
	int lowat = 0;
	socklen_t size = sizeof(lowat);

	assert_int_equal(getsockopt(f->accepted, SOL_SOCKET, SO_RCVLOWAT, &lowat, &size), 0);
	assert_int_equal(lowat, 1);
	assert_int_equal(recv(f->accepted, got, sizeof(got), MSG_DONTWAIT), len);
	assert_memory_equal(got, data, len);
}

static void test_at_once(void **state)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
	struct fixture *f = *state;

	connect_client(f);
	say(f, request, strlen(request));
	assert_int_equal(begin(f), SNIFF_NAME);
	assert_string_equal(f->sniffed.name, "a.example");
	assert_null(f->sniff);
	assert_untouched(f, request, strlen(request));
	/* No protocol that is known. */
	connect_client(f);
	say(f, "\0\1", 2);
	assert_int_equal(begin(f), SNIFF_NONE);
	assert_untouched(f, "\0\1", 2);
}

/* The hello in two parts: every position, and the first part before and after the wait begins. */
static void test_every_split(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[4096];
	static struct hello hello;
	size_t len, at;

	hello_make(&hello, 300, "split.example.org", false);
	len = hello_records(&hello, 200, data, sizeof(data));
	for (at = 0; at < len; at++) {
		connect_client(f);
		if (at % 2)
			say(f, data, at);
		assert_int_equal(begin(f), SNIFF_MORE);
		if (at % 2 == 0 && at > 0)
			say(f, data, at);
		turn(f);
		assert_false(f->over);
		say(f, data + at, len - at);
		assert_int_equal(finish(f), SNIFF_NAME);
		assert_string_equal(f->sniffed.name, "split.example.org");
		assert_untouched(f, data, len);
	}
}

static int callbacks;

static void count_event(evutil_socket_t fd, short what, void *arg)
{
	callbacks++;
}

/*
 * Byte by byte. A part of a hello must not be reported again and again: as the relay's event, one
 * with the same socket is reported once for each byte, at most.
 * To see it fail: let set_lowat() return true at once.
 */
static void test_slow_client(void **state)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: slow.example\r\n\r\n";
	struct fixture *f = *state;
	struct event *spy;
	size_t i;

	connect_client(f);
	assert_int_equal(begin(f), SNIFF_MORE);
	spy = event_new(f->base, f->accepted, EV_READ | EV_PERSIST, count_event, NULL);
	event_add(spy, NULL);
	callbacks = 0;
	for (i = 0; i < strlen(request); i++) {
		say(f, request + i, 1);
		turn(f);
	}
	event_free(spy);
	assert_in_range(callbacks, 1, strlen(request));
	assert_int_equal(finish(f), SNIFF_NAME);
	assert_string_equal(f->sniffed.name, "slow.example");
	assert_untouched(f, request, strlen(request));
}

/* A part, and then nothing: the wait ends in time, and the destination is not a silent one. */
static void test_unfinished(void **state)
{
	struct fixture *f = *state;

	connect_client(f);
	assert_int_equal(begin(f), SNIFF_MORE);
	say(f, "GET /", 5);
	assert_int_equal(finish(f), SNIFF_NONE);
	assert_in_range(f->ms, SNIFF_WAIT_MS - 20, 100000);
	assert_untouched(f, "GET /", 5);
	connect_client(f);
	assert_int_equal(begin(f), SNIFF_MORE);
}

static void test_silent_client(void **state)
{
	struct fixture *f = *state;

	connect_client(f);
	assert_int_equal(begin(f), SNIFF_MORE);
	assert_int_equal(finish(f), SNIFF_NONE);
	assert_in_range(f->ms, SNIFF_WAIT_MS - 20, 100000);
	/* The next one is not waited for. To see it fail: let is_silent() return false. */
	connect_client(f);
	assert_int_equal(begin(f), SNIFF_NONE);
	/* Other users, ports and addresses are. */
	f->uid = 1;
	assert_int_equal(begin(f), SNIFF_MORE);
	sniff_end(f->sniff, NULL);
	f->uid = 0;
	f->dst.in.sin_port = htons(444);
	assert_int_equal(begin(f), SNIFF_MORE);
	sniff_end(f->sniff, NULL);
	f->dst.in.sin_port = htons(443);
	f->dst.in.sin_addr.s_addr ^= htonl(1);
	assert_int_equal(begin(f), SNIFF_MORE);
	sniff_end(f->sniff, NULL);
	f->sniff = NULL;
	f->dst.in.sin_addr.s_addr ^= htonl(1);
	/* So is this one after a while. To see it fail: compare no time in is_silent(). */
	later_s = SNIFF_SILENT_MS / 1000 + 1;
	assert_int_equal(begin(f), SNIFF_MORE);
	sniff_end(f->sniff, NULL);
	f->sniff = NULL;
	later_s = 0;
	/* A client that speaks is looked at, and ends the memory. */
	say(f, "x", 1);
	assert_int_equal(begin(f), SNIFF_NONE);
	connect_client(f);
	assert_int_equal(begin(f), SNIFF_MORE);
}

/* Of hosts in one network each has its own memory. To see it fail: hash half of the address. */
static void test_silent_client_of_ipv6(void **state)
{
	struct fixture *f = *state;

	f->dst.in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(443) };
	f->dst.in6.sin6_addr.s6_addr[0] = 0x20;
	connect_client(f);
	assert_int_equal(begin(f), SNIFF_MORE);
	assert_int_equal(finish(f), SNIFF_NONE);
	connect_client(f);
	assert_int_equal(begin(f), SNIFF_NONE);
	f->dst.in6.sin6_addr.s6_addr[15] = 1;
	assert_int_equal(begin(f), SNIFF_MORE);
}

/* FIN, with and without a part of a hello before it. It is not a silent client. */
static void test_fin(void **state)
{
	struct fixture *f = *state;
	int part;

	for (part = 0; part < 2; part++) {
		connect_client(f);
		if (part)
			say(f, "GET", 3);
		assert_int_equal(begin(f), SNIFF_MORE);
		shutdown(f->client, SHUT_WR);
		assert_int_equal(finish(f), SNIFF_NONE);
		assert_in_range(f->ms, 0, SNIFF_WAIT_MS - 20);
		assert_untouched(f, "GET", part ? 3 : 0);
	}
	connect_client(f);
	shutdown(f->client, SHUT_WR);
	assert_int_equal(begin(f), SNIFF_NONE);
}

/* After a reset the error is still there for the relaying, or the session's probe. */
static void test_reset(void **state)
{
	const struct linger linger = { .l_onoff = 1 };
	struct fixture *f = *state;
	char got[8];
	int part;

	for (part = 0; part < 2; part++) {
		connect_client(f);
		if (part)
			say(f, "GET", 3);
		assert_int_equal(begin(f), SNIFF_MORE);
		setsockopt(f->client, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(f->client);
		f->client = -1;
		assert_int_equal(finish(f), part ? SNIFF_NONE : SNIFF_RESET);
		assert_in_range(f->ms, 0, SNIFF_WAIT_MS - 20);
		/* The kernel has told it, or still does. */
		recv(f->accepted, got, sizeof(got), MSG_DONTWAIT);
		assert_int_equal(recv(f->accepted, got, 1, MSG_DONTWAIT), part ? -1 : 0);
	}
}

/* An urgent byte stays at its place, and is not passed over. */
static void test_urgent(void **state)
{
	struct fixture *f = *state;
	uint8_t got[8];

	connect_client(f);
	say(f, "GET", 3);
	assert_int_equal(begin(f), SNIFF_MORE);
	assert_int_equal(send(f->client, "!", 1, MSG_OOB), 1);
	say(f, " / HTTP/1.1\r\n", 13);
	assert_int_equal(finish(f), SNIFF_NONE);
	assert_in_range(f->ms, 0, SNIFF_WAIT_MS - 20);
	assert_int_equal(recv(f->accepted, got, sizeof(got), MSG_DONTWAIT), 3);
	assert_int_equal(sockatmark(f->accepted), 1);
}

/* The session ends while it waits. */
static void test_given_up(void **state)
{
	struct fixture *f = *state;

	connect_client(f);
	say(f, "GET", 3);
	assert_int_equal(begin(f), SNIFF_MORE);
	assert_int_equal(sniff_end(f->sniff, &f->sniffed), SNIFF_NONE);
	f->sniff = NULL;
	assert_false(f->over);
	assert_untouched(f, "GET", 3);
}

#define sniff_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		sniff_test(test_at_once),	sniff_test(test_every_split),
		sniff_test(test_slow_client),	sniff_test(test_unfinished),
		sniff_test(test_silent_client), sniff_test(test_silent_client_of_ipv6),
		sniff_test(test_fin),		sniff_test(test_reset),
		sniff_test(test_urgent),	sniff_test(test_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
