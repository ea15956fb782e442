// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* common/log.c and common/sink.c: levels, limits, and that a log which nobody reads stops nobody.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sink.h"
#include "unit.h"

/* stderr is one end of something while a test runs; the test reads the other end. */
struct ends {
	int stderr_before, read_fd;
};

static void stderr_is(struct ends *ends, const int fds[2])
{
	fflush(stderr);
	ends->stderr_before = dup(STDERR_FILENO);
	ends->read_fd = fds[0];
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	close(fds[1]);
}

static void stderr_is_pipe(struct ends *ends)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(fcntl(fds[1], F_SETPIPE_SZ, 4096) > 0);
	stderr_is(ends, fds);
}

static void stderr_as_before(struct ends *ends)
{
	dup2(ends->stderr_before, STDERR_FILENO);
	close(ends->stderr_before);
	close(ends->read_fd);
}

/* What is there by now. */
static const char *what_came(const struct ends *ends)
{
	static char text[1 << 20];
	struct pollfd ready = { .fd = ends->read_fd, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) - 1 && poll(&ready, 1, 0) == 1) {
		n = read(ends->read_fd, text + len, sizeof(text) - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	return text;
}

static void set_journal_stream(long long ino_off)
{
	char text[64];
	struct stat st;

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino + (unsigned long long)ino_off);
	setenv("JOURNAL_STREAM", text, 1);
}

/* One line each: a prefix for journald where stderr is its stream, and only there. */
static void test_levels(void **state)
{
	char journal[128], inherited[128];
	struct ends ends;

	stderr_is_pipe(&ends);
	set_journal_stream(0);
	log_init("unit", LOG_LEVEL_INFO);
	log_err("one");
	log_warning("two\n");
	log_info("three");
	log_debug("four");
	snprintf(journal, sizeof(journal), "%s", what_came(&ends));
	/* Inherited from a service whose child has its stderr elsewhere. */
	set_journal_stream(1);
	log_init("unit", LOG_LEVEL_DEBUG);
	log_err("one");
	setenv("JOURNAL_STREAM", "nonsense", 1);
	log_init("unit", LOG_LEVEL_DEBUG);
	log_debug("two");
	snprintf(inherited, sizeof(inherited), "%s", what_came(&ends));
	unsetenv("JOURNAL_STREAM");
	stderr_as_before(&ends);
	assert_string_equal(journal, "<3>one\n<4>two\n<6>three\n");
	assert_string_equal(inherited, "unit: one\nunit: two\n");
}

static void test_long_message_is_cut(void **state)
{
	char text[5000];
	const char *came;
	struct ends ends;
	size_t len;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	stderr_is_pipe(&ends);
	log_init("unit", LOG_LEVEL_INFO);
	log_info("%s", text);
	came = what_came(&ends);
	len = strlen(came);
	stderr_as_before(&ends);
	assert_in_range(len, 900, 1024);
	assert_ptr_equal(strchr(came, '\n'), came + len - 1);
}

/* Five at once, then one a minute, each of which says what was left out before. */
static void test_limit(void **state)
{
	struct log_limit limit = {};
	uint64_t left_out, second, printed = 0;
	int i;

	for (i = 0; i < 5; i++) {
		assert_true(log_limit_take(&limit, 1000, &left_out));
		assert_int_equal(left_out, 0);
	}
	for (i = 0; i < 70; i++)
		assert_false(log_limit_take(&limit, 1000, &left_out));
	assert_false(log_limit_take(&limit, 60999, &left_out));
	assert_true(log_limit_take(&limit, 61000, &left_out));
	assert_int_equal(left_out, 71);
	assert_false(log_limit_take(&limit, 61000, &left_out));

	/* Each second of an hour. */
	for (second = 61; second < 3661; second++)
		printed += log_limit_take(&limit, second * 1000, &left_out);
	assert_in_range(printed, 59, 60);

	/* After a quiet time as at the start. */
	for (i = 0; i < 5; i++)
		assert_true(log_limit_take(&limit, 1 << 30, &left_out));
	assert_false(log_limit_take(&limit, 1 << 30, &left_out));
}

static void *take_many(void *arg)
{
	uint64_t left_out, *sum = malloc(sizeof(*sum));
	int i;

	*sum = 0;
	for (i = 0; i < 10000; i++) {
		if (log_limit_take(arg, 1000, &left_out))
			*sum += 1;
	}
	return sum;
}

static void test_limit_of_several_threads(void **state)
{
	struct log_limit limit = {};
	pthread_t threads[4];
	uint64_t sum = 0;
	void *one;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_many, &limit), 0);
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &one);
		sum += *(uint64_t *)one;
		free(one);
	}
	assert_int_equal(sum, 5);
	assert_true(limit.left_out <= 4 * 10000 - 5);
}

static void test_limited_messages(void **state)
{
	struct log_limit limit = {}, other = {};
	struct ends ends;
	char came[1024];
	int i;

	stderr_is_pipe(&ends);
	log_init("u", LOG_LEVEL_INFO);
	for (i = 0; i < 8; i++) {
		/* What is not printed anyway costs nothing of the limit. */
		log_limited(&limit, LOG_LEVEL_DEBUG, "quiet");
		log_limited(&limit, LOG_LEVEL_ERR, "bad %d", i);
	}
	log_limit_begin(&other);
	for (i = 0; i < 8; i++)
		log_info("worse %d", i);
	log_limit_end();
	other.due_ms = 0;
	log_limited(&other, LOG_LEVEL_INFO, "late");
	errno = ELOOP;
	log_info("free");
	assert_int_equal(errno, ELOOP);
	snprintf(came, sizeof(came), "%s", what_came(&ends));
	stderr_as_before(&ends);
	assert_string_equal(came, "u: bad 0\nu: bad 1\nu: bad 2\nu: bad 3\nu: bad 4\n"
				  "u: worse 0\nu: worse 1\nu: worse 2\nu: worse 3\nu: worse 4\n"
				  "u: late (3 like this were left out)\nu: free\n");
}

/*
 * What cannot be printed at once is dropped whole; when there is room again, that is said. To see
 * it red: write() instead of write_at_once(), and it hangs; alarm() ends it.
 */
static void nobody_reads(struct ends *ends)
{
	uint64_t dropped = sink_dropped();
	char told[128], *line, *save;
	const char *text;
	int i, n = 0, flags = fcntl(STDERR_FILENO, F_GETFL);

	alarm(10);
	for (i = 0; i < 20000; i++)
		log_info("number %05d, and some more that fills what there is to fill", i);
	assert_int_equal(fcntl(STDERR_FILENO, F_GETFL), flags);
	dropped = sink_dropped() - dropped;
	/* Each line tried to say it too. */
	assert_true(dropped > 1000);
	text = what_came(ends);
	for (line = strtok_r((char *)text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		assert_int_equal(strlen(line), strlen("u: number 00000, and some more that fills "
						      "what there is to fill"));
		assert_int_equal(atoi(line + strlen("u: number ")), n);
		n++;
	}
	assert_true(n > 10);
	log_info("there you are");
	snprintf(told, sizeof(told),
		 "u: %d messages were dropped here: this log was not read\nu: there you are\n",
		 20000 - n);
	assert_string_equal(what_came(ends), told);
	log_info("again");
	assert_string_equal(what_came(ends), "u: again\n");
	alarm(0);
}

static void test_pipe_that_nobody_reads(void **state)
{
	struct ends ends;

	stderr_is_pipe(&ends);
	nobody_reads(&ends);
	stderr_as_before(&ends);
}

/* As the journal's is. */
static void test_socket_that_nobody_reads(void **state)
{
	struct ends ends;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	stderr_is(&ends, fds);
	nobody_reads(&ends);
	stderr_as_before(&ends);
}

/* Here the kernel does not know RWF_NOWAIT: the way by poll(). */
static void test_fifo_that_nobody_reads(void **state)
{
	char directory[] = "/tmp/tproxy-unit-XXXXXX", path[64];
	struct ends ends;
	int fds[2];

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/fifo", directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	fds[1] = open(path, O_WRONLY | O_CLOEXEC);
	unlink(path);
	rmdir(directory);
	assert_true(fds[0] >= 0 && fds[1] >= 0);
	stderr_is(&ends, fds);
	nobody_reads(&ends);
	stderr_as_before(&ends);
}

static void test_reader_that_is_gone(void **state)
{
	uint64_t dropped = sink_dropped();
	struct ends ends;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	stderr_is(&ends, fds);
	close(ends.read_fd);
	assert_false(sink_write(STDERR_FILENO, "x\n", 2));
	ends.read_fd = -1;
	stderr_as_before(&ends);
	assert_int_equal(sink_dropped() - dropped, 1);
}

static int never_wait(void **state)
{
	sink_never_wait();
	log_init("u", LOG_LEVEL_INFO);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_long_message_is_cut),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_of_several_threads),
		cmocka_unit_test(test_limited_messages),
		cmocka_unit_test_setup(test_pipe_that_nobody_reads, never_wait),
		cmocka_unit_test_setup(test_socket_that_nobody_reads, never_wait),
		cmocka_unit_test_setup(test_fifo_that_nobody_reads, never_wait),
		cmocka_unit_test_setup(test_reader_that_is_gone, never_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
