// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests proxy/session/pump.c between two TCP connections on loopback: bytes, FIN, errors,
 * back-pressure, and that an idle pump holds no buffer and no pipe.
 */
#include "session/pump.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "session/pipes.h"
#include "unit.h"

/* peer[0] -> src | pump | dst -> peer[1] */
#define BUFFER_SIZE (64 * 1024)
#define PIPE_SIZE   (512 * 1024)

struct fixture {
	int from_peer, src, dst, to_peer;
	struct pipes pipes;
	struct pump_env env;
	struct pump pump;
};

static void tcp_pair(int *ret_a, int *ret_b)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	*ret_a = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(*ret_a, (struct sockaddr *)&addr, len), 0);
	*ret_b = accept(listener, NULL, NULL);
	assert_true(*ret_b >= 0);
	close(listener);
}

static void nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void inline_urgent(int fd)
{
	const int on = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	tcp_pair(&f->from_peer, &f->src);
	tcp_pair(&f->dst, &f->to_peer);
	nonblocking(f->src);
	nonblocking(f->dst);
	nonblocking(f->to_peer);
	inline_urgent(f->src);
	pipes_init(&f->pipes, 1, PIPE_SIZE);
	f->env.pipes = &f->pipes;
	f->env.turn_bytes = 128 * 1024;
	f->env.scratch_size = BUFFER_SIZE;
	f->env.scratch = malloc(BUFFER_SIZE);
	pump_init(&f->pump, f->src, f->dst);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pump_finish(&f->pump, &f->env);
	pipes_finish(&f->pipes);
	assert_int_equal(f->pipes.made, 0);
	free(f->env.scratch);
	close(f->from_peer);
	close(f->src);
	close(f->dst);
	close(f->to_peer);
	free(f);
	return 0;
}

static enum pump_result run(struct fixture *f)
{
	return pump_run(&f->pump, &f->env);
}

static int unread(int fd)
{
	int n = -1;

	assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

/* Writes as the peer, and waits: on a busy machine the kernel delivers it somewhat later. */
static void put(struct fixture *f, const void *data, size_t len)
{
	const int wanted = unread(f->src) + (int)len;
	int i;

	assert_int_equal(write(f->from_peer, data, len), len);
	for (i = 0; i < 50000 && unread(f->src) != wanted; i++)
		usleep(100);
	assert_int_equal(unread(f->src), wanted);
}

static void reset(int *fd)
{
	const struct linger linger = { .l_onoff = 1 };

	setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(*fd);
	*fd = -1;
}

static void test_small(void **state)
{
	struct fixture *f = *state;
	char got[16];

	assert_int_equal(run(f), PUMP_WAIT_READ);
	put(f, "hello", 5);
	assert_int_equal(run(f), PUMP_WAIT_READ);
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 5);
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(f->pump.bytes, 5);
	assert_null(f->pump.kept);
	assert_null(f->pump.pipe);
	assert_int_equal(f->pipes.made, 0);
}

static void test_end(void **state)
{
	struct fixture *f = *state;
	enum pump_result r;
	char got[16];

	put(f, "bye", 3);
	shutdown(f->from_peer, SHUT_WR);
	r = run(f); /* a short read ends the call; the next one sees the FIN */
	if (r == PUMP_WAIT_READ)
		r = run(f);
	assert_int_equal(r, PUMP_EOF);
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 3);
}

static void test_reset_after_data(void **state)
{
	struct fixture *f = *state;
	enum pump_result r;
	char got[16];

	put(f, "last", 4);
	reset(&f->from_peer);
	r = run(f);
	if (r == PUMP_WAIT_READ)
		r = run(f);
	assert_int_equal(r, PUMP_READ_ERROR);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 4);
}

static void test_destination_reset(void **state)
{
	struct fixture *f = *state;

	reset(&f->to_peer);
	put(f, "x", 1);
	assert_int_equal(run(f), PUMP_WRITE_ERROR);
}

/* The byte at a position of the test stream. The period is prime to all buffer sizes. */
#define PERIOD 65521
static unsigned char pattern[2 * PERIOD];

static void fill_pattern(void)
{
	size_t i;

	for (i = 0; i < sizeof(pattern); i++)
		pattern[i] = (unsigned char)((i % PERIOD) * 2654435761u >> 13);
}

/* A sender that never pauses and a slow receiver: all bytes arrive in order, in bounded memory. */
static void stream(struct fixture *f, size_t total)
{
	static unsigned char in[PERIOD];
	size_t sent = 0, got = 0, turn, want;
	enum pump_result r;
	ssize_t n;

	fill_pattern();
	nonblocking(f->from_peer);
	for (turn = 0; got < total; turn++) {
		want = total - sent < PERIOD ? total - sent : PERIOD;
		n = want ? write(f->from_peer, pattern + sent % PERIOD, want) : 0;
		if (n > 0)
			sent += (size_t)n;
		r = run(f);
		assert_true(r == PUMP_WAIT_READ || r == PUMP_WAIT_WRITE);
		assert_true(!f->pump.kept || f->pump.kept->len <= BUFFER_SIZE);
		assert_true(f->pump.in_pipe <= PIPE_SIZE);
		if (r == PUMP_WAIT_READ)
			assert_true(!f->pump.kept && !f->pump.pipe);
		if (sent < total && turn % 3)
			continue; /* the slow receiver */
		n = read(f->to_peer, in, sizeof(in));
		if (n <= 0)
			continue;
		assert_memory_equal(in, pattern + got % PERIOD, n);
		got += (size_t)n;
	}
	assert_int_equal(f->pump.bytes, total);
}

static void test_bulk(void **state)
{
	struct fixture *f = *state;

	stream(f, 64 * 1024 * 1024);
	assert_true(f->env.spliced > 0);
	assert_int_equal(f->pipes.made, 1);
}

/*
 * Bulk may end in a segment that is not full, and Nagle's algorithm holds back what follows it
 * (I10). To see it fail: leave out acknowledge() in splice_some().
 */
static void test_bulk_is_acknowledged_at_once(void **state)
{
	struct fixture *f = *state;
	const size_t size = 32 * 1024;
	socklen_t len = sizeof(int);
	int on = 0;

	stream(f, 1024 * 1024);
	f->pump.near_src = true;
	f->pump.full_reads = 2; /* bulk, as after two full reads */
	assert_int_equal(setsockopt(f->src, IPPROTO_TCP, TCP_QUICKACK, &on, len), 0);
	f->env.spliced = 0;
	assert_int_equal(write(f->from_peer, f->env.scratch, size), size);
	assert_int_equal(run(f), PUMP_WAIT_READ);
	assert_int_equal(f->env.spliced, size);
	assert_int_equal(getsockopt(f->src, IPPROTO_TCP, TCP_QUICKACK, &on, &len), 0);
	assert_int_equal(on, 1);
}

static void test_bulk_without_pipe(void **state)
{
	struct fixture *f = *state;

	f->pipes.max = 0;
	stream(f, 16 * 1024 * 1024);
	assert_int_equal(f->env.spliced, 0);
}

static int nodelay(int fd)
{
	int on = -1;
	socklen_t len = sizeof(on);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	return on;
}

/* To see it fail: leave out before_write() in copy(). */
static void test_nagle_ends_before_the_second_write(void **state)
{
	struct fixture *f = *state;

	f->pump.nagle = true;
	put(f, "a", 1);
	assert_int_equal(run(f), PUMP_WAIT_READ);
	assert_int_equal(nodelay(f->dst), 0);
	put(f, "b", 1);
	assert_int_equal(run(f), PUMP_WAIT_READ);
	assert_int_equal(nodelay(f->dst), 1);
	assert_int_equal(f->pump.bytes, 2);
}

static void test_prefetch(void **state)
{
	struct fixture *f = *state;
	char got[16];

	assert_false(pump_prefetch(&f->pump, &f->env));
	put(f, "early", 5);
	assert_true(pump_prefetch(&f->pump, &f->env));
	assert_int_equal(f->pump.bytes, 0);
	put(f, "late", 4);
	while (f->pump.bytes < 9)
		assert_int_equal(run(f), PUMP_WAIT_READ);
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 9);
	assert_memory_equal(got, "earlylate", 9);
	assert_null(f->pump.kept);
}

/* The destination takes a part first and the rest later, in order. */
static void test_prefetch_of_more_than_it_takes(void **state)
{
	static char out[3 * BUFFER_SIZE], in[sizeof(out)];
	struct fixture *f = *state;
	size_t got = 0;

	fill_pattern();
	memcpy(out, pattern, sizeof(out) < sizeof(pattern) ? sizeof(out) : sizeof(pattern));
	put(f, out, BUFFER_SIZE + 1);
	assert_true(pump_prefetch(&f->pump, &f->env));
	assert_true(pump_held(&f->pump) <= 4096);
	while (got < BUFFER_SIZE + 1) {
		ssize_t n;

		assert_true(run(f) <= PUMP_WAIT_WRITE);
		n = read(f->to_peer, in + got, sizeof(in) - got);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_memory_equal(in, out, BUFFER_SIZE + 1);
}

static void test_prefetch_end(void **state)
{
	struct fixture *f = *state;

	shutdown(f->from_peer, SHUT_WR);
	assert_false(pump_prefetch(&f->pump, &f->env));
	assert_int_equal(run(f), PUMP_EOF);
}

/*
 * The kernel reports a reset once, so it must be kept: the next read would see EOF. To see it fail:
 * drop the error of the prefetch.
 */
static void test_prefetch_reset(void **state)
{
	struct fixture *f = *state;

	reset(&f->from_peer);
	assert_false(pump_prefetch(&f->pump, &f->env));
	assert_int_equal(run(f), PUMP_READ_ERROR);
}

static bool at_mark(int fd)
{
	int at = -1;

	assert_int_equal(ioctl(fd, SIOCATMARK, &at), 0);
	return at;
}

static void run_until(struct fixture *f, uint64_t bytes)
{
	int i;

	for (i = 0; f->pump.bytes < bytes; i++) {
		assert_true(i < 100);
		assert_int_equal(run(f), PUMP_WAIT_READ);
	}
}

static void send_urgent(int fd, const char *before, const char *urgent, const char *after)
{
	assert_int_equal(write(fd, before, strlen(before)), strlen(before));
	assert_int_equal(send(fd, urgent, 1, MSG_OOB), 1);
	assert_int_equal(write(fd, after, strlen(after)), strlen(after));
}

/*
 * An urgent byte reaches the peer as one. To see it fail: send it without MSG_OOB (no urgent mark),
 * or read without SO_OOBINLINE (no byte).
 */
static void test_urgent_byte(void **state)
{
	struct fixture *f = *state;
	char got[16];

	inline_urgent(f->to_peer);
	send_urgent(f->from_peer, "before", "!", "after");
	run_until(f, 12);
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 6);
	assert_memory_equal(got, "before", 6);
	assert_true(at_mark(f->to_peer));
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 6);
	assert_memory_equal(got, "!after", 6);
}

/*
 * A receiver without SO_OOBINLINE reads the urgent byte apart from the stream. To see it fail: as
 * above.
 */
static void test_urgent_byte_apart(void **state)
{
	struct fixture *f = *state;
	char got[16];

	send_urgent(f->from_peer, "before", "!", "after");
	run_until(f, 12);
	assert_int_equal(recv(f->to_peer, got, 1, MSG_OOB), 1);
	assert_int_equal(got[0], '!');
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 6);
	assert_memory_equal(got, "before", 6);
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 5);
	assert_memory_equal(got, "after", 5);
}

/*
 * If another BPF program refuses SO_OOBINLINE, the urgent byte is not in the stream, and no other
 * byte may become urgent in its place. To see it fail: skip the check of SO_OOBINLINE in at_mark().
 */
static void test_urgent_byte_that_is_not_in_line(void **state)
{
	struct fixture *f = *state;
	const int off = 0;
	char got[16], urgent;

	assert_int_equal(setsockopt(f->src, SOL_SOCKET, SO_OOBINLINE, &off, sizeof(off)), 0);
	send_urgent(f->from_peer, "before", "!", "after");
	run_until(f, 11);
	assert_int_equal(recv(f->to_peer, &urgent, 1, MSG_OOB), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 11);
	assert_memory_equal(got, "beforeafter", 11);
}

static void test_urgent_byte_first_of_all(void **state)
{
	struct fixture *f = *state;
	char got[16];

	send_urgent(f->from_peer, "", "!", "");
	assert_true(pump_prefetch(&f->pump, &f->env));
	put(f, "after", 5);
	run_until(f, 6);
	assert_int_equal(recv(f->to_peer, got, 1, MSG_OOB), 1);
	assert_int_equal(got[0], '!');
	assert_int_equal(read(f->to_peer, got, sizeof(got)), 5);
}

/*
 * The urgent mark stops a splice, and a FIN follows the byte. To see it fail: return PUMP_EOF in
 * splice_some() for 0, or read_result() for EAGAIN.
 */
static void test_urgent_byte_in_bulk(void **state)
{
	static char in[PERIOD], out[100 * 1024];
	struct fixture *f = *state;
	enum pump_result r = PUMP_WAIT_READ;
	size_t got = 0;
	int i;

	inline_urgent(f->to_peer);
	assert_int_equal(write(f->from_peer, out, sizeof(out)), sizeof(out));
	assert_int_equal(send(f->from_peer, "!", 1, MSG_OOB), 1);
	assert_int_equal(write(f->from_peer, out, sizeof(out)), sizeof(out));
	shutdown(f->from_peer, SHUT_WR);
	for (i = 0; i < 1000 && r != PUMP_EOF; i++) {
		ssize_t n;

		f->pump.full_reads = 2; /* switches the pump to bulk */
		r = run(f);
		n = read(f->to_peer, in, sizeof(in));
		assert_true(n < 1 || !memchr(in, '!', (size_t)n) == (got != sizeof(out)));
		got += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(r, PUMP_EOF);
	assert_int_equal(f->pump.bytes, 2 * sizeof(out) + 1);
	assert_true(f->env.spliced > 0);
	while (got < 2 * sizeof(out) + 1) {
		ssize_t n = read(f->to_peer, in, sizeof(in));

		assert_true(n > 0 || errno == EAGAIN);
		got += n > 0 ? (size_t)n : 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_after_data, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destination_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bulk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bulk_is_acknowledged_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bulk_without_pipe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nagle_ends_before_the_second_write, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_prefetch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_of_more_than_it_takes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prefetch_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urgent_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urgent_byte_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urgent_byte_that_is_not_in_line, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_urgent_byte_first_of_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urgent_byte_in_bulk, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
