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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_long_message_is_cut),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_of_several_threads),
		cmocka_unit_test(test_limited_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
