// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests common/log.c, sink.c and logfile.c: levels, rate limits, and that a log without a reader
 * blocks nobody.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "logfile.h"
#include "sink.h"
#include "unit.h"

/* During a test stderr is one end of a pipe or socket pair; the test reads the other end. */
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

/* Returns what has arrived so far. */
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

/* Each message is one line. It starts with <N> if stderr is the journal's stream, and only then. */
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
	/* JOURNAL_STREAM was inherited, and stderr is another file. */
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

/*
 * A name that another user chooses may contain what looks like a log line. To see it fail: skip
 * escape_text().
 */
static void test_message_stays_one_line(void **state)
{
	struct ends ends;
	char came[64];

	stderr_is_pipe(&ends);
	log_init("u", LOG_LEVEL_INFO);
	log_info("'%s'\n", "a\nu: b\x1b[31m\x7f\xc3\xbc");
	strcpy(came, what_came(&ends));
	stderr_as_before(&ends);
	assert_string_equal(came, "u: 'a\\x0au: b\\x1b[31m\\x7f\\xc3\\xbc'\n");
}

/* Five messages at once, then one a minute, each with the number left out before it. */
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

	/* One message in each second of an hour. */
	for (second = 61; second < 3661; second++)
		printed += log_limit_take(&limit, second * 1000, &left_out);
	assert_in_range(printed, 59, 60);

	/* After a quiet time the burst is available again. */
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
		/* A message below the log level does not use up the limit. */
		log_limited(&limit, LOG_LEVEL_DEBUG, "quiet");
		log_limited(&limit, LOG_LEVEL_ERR, "bad %d", i);
	}
	log_limit_begin(&other);
	for (i = 0; i < 8; i++)
		log_info("worse %d", i);
	log_limited(NULL, LOG_LEVEL_INFO, "well again");
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
				  "u: well again\nu: late (4 like this were left out)\nu: free\n");
}

/*
 * A line that cannot be written at once is dropped whole, and the number is reported when there is
 * room again. To see it fail: write() in place of write_at_once(); the test hangs until alarm()
 * ends it.
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
		 "u: %d messages were dropped here: it is not read\nu: there you are\n", 20000 - n);
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

/* The journal's stderr is such a socket. */
static void test_socket_that_nobody_reads(void **state)
{
	struct ends ends;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	stderr_is(&ends, fds);
	nobody_reads(&ends);
	stderr_as_before(&ends);
}

/* The kernel has no RWF_NOWAIT for named pipes: this is the path with poll(). */
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

/*
 * Makes stderr a file, opened as by a shell's '>' (without O_APPEND), and stores its name in path.
 */
static void stderr_is_file(struct ends *ends, char path[64])
{
	int fds[2] = { -1, -1 };

	strcpy(path, "/tmp/tproxy-unit-XXXXXX");
	fds[1] = mkstemp(path);
	assert_true(fds[1] >= 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
	stderr_is(ends, fds);
	logfile_stop(5000);
	logfile_remember();
}

static const char *content(const char *path)
{
	static char text[1 << 20];
	size_t n;
	FILE *f;

	logfile_stop(5000);
	f = fopen(path, "r");
	if (!f)
		return "no such file";
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

static void limit_files(rlim_t size)
{
	const struct rlimit limit = { size, RLIM_INFINITY };

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/*
 * A file that is full (here: at its size limit) holds whole lines. The other lines are dropped, and
 * their number is reported when there is room again. To see it fail: no cut_off(), or SIGXFSZ with
 * its default action.
 */
static void test_file_that_is_full(void **state)
{
	uint64_t dropped = sink_dropped();
	char path[64], told[128];
	struct ends ends;
	int i;

	sink_take_lost(STDERR_FILENO, &i);
	stderr_is_file(&ends, path);
	limit_files(100);
	for (i = 0; i < 50; i++)
		log_info("number %05d, which is a line", i);
	assert_string_equal(content(path), "u: number 00000, which is a line\n"
					   "u: number 00001, which is a line\n"
					   "u: number 00002, which is a line\n");
	assert_int_equal(sink_dropped() - dropped, 47);
	limit_files(RLIM_INFINITY);
	/* As copytruncate does. The file must not start with a hole. */
	assert_int_equal(truncate(path, 0), 0);
	log_info("there you are");
	logfile_stop(5000);
	log_info("again");
	snprintf(told, sizeof(told),
		 "u: there you are\nu: 47 messages were dropped here: %s\nu: again\n",
		 strerror(EFBIG));
	assert_string_equal(content(path), told);
	unlink(path);
	stderr_as_before(&ends);
}

/* Lines before the reopen go to the renamed file, later ones to a new file of the old name. */
static void test_file_that_was_renamed(void **state)
{
	char path[64], renamed[80];
	const char *name;
	struct ends ends;
	int error;

	sink_take_lost(STDERR_FILENO, &error);
	stderr_is_file(&ends, path);
	snprintf(renamed, sizeof(renamed), "%s.1", path);
	log_info("one");
	assert_int_equal(rename(path, renamed), 0);
	log_info("two");
	logfile_reopen();
	assert_string_equal(content(renamed), "u: one\nu: two\n");
	log_info("three");
	logfile_reopen();
	log_info("four");
	assert_string_equal(content(path), "u: three\nu: four\n");
	assert_string_equal(content(renamed), "u: one\nu: two\n");
	assert_int_equal(logfile_reopen_error(STDERR_FILENO, &name), 0);
	/* If the name cannot be opened, the old file stays in use. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	logfile_reopen();
	logfile_stop(5000);
	assert_int_equal(logfile_reopen_error(STDERR_FILENO, &name), ELOOP);
	assert_string_equal(name, path);
	assert_int_equal(logfile_reopen_error(STDERR_FILENO, &name), 0);
	/* A pipe without a reader must not hold up the thread: logfile_stop() would give up. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	logfile_reopen();
	log_info("five");
	logfile_stop(5000);
	assert_int_equal(logfile_reopen_error(STDERR_FILENO, &name), ENXIO);
	unlink(path);
	unlink(renamed);
	stderr_as_before(&ends);
}

/*
 * A descriptor of 0 to 2 that is closed at the start is not reused. To see it fail: skip
 * sink_init().
 */
static void test_closed_descriptors(void **state)
{
	int fd, kept[3], i;

	for (i = 0; i < 3; i++) {
		kept[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		close(i);
	}
	sink_init();
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	errno = 0;
	i = write(STDERR_FILENO, "x", 1) < 0 ? errno : 0;
	close(fd);
	dup2(kept[0], 0);
	dup2(kept[1], 1);
	dup2(kept[2], 2);
	assert_true(fd > STDERR_FILENO);
	assert_int_equal(i, EBADF);
	for (i = 0; i < 3; i++)
		close(kept[i]);
}

static int never_wait(void **state)
{
	sink_init();
	sink_never_wait();
	log_init("u", LOG_LEVEL_INFO);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_long_message_is_cut),
		cmocka_unit_test(test_message_stays_one_line),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_of_several_threads),
		cmocka_unit_test(test_limited_messages),
		cmocka_unit_test_setup(test_pipe_that_nobody_reads, never_wait),
		cmocka_unit_test_setup(test_socket_that_nobody_reads, never_wait),
		cmocka_unit_test_setup(test_fifo_that_nobody_reads, never_wait),
		cmocka_unit_test_setup(test_reader_that_is_gone, never_wait),
		cmocka_unit_test_setup(test_file_that_is_full, never_wait),
		cmocka_unit_test_setup(test_file_that_was_renamed, never_wait),
		cmocka_unit_test_setup(test_closed_descriptors, never_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
