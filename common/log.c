// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See log.h. A message that is longer than the buffer is cut, not split over two lines. */
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "escape.h"
#include "logfile.h"
#include "sink.h"

/* A limit passes this many messages at once, and then one in each interval. */
#define LIMIT_BURST	  5
#define LIMIT_INTERVAL_MS 60000

#define EPISODE_QUIET_MS 10000

/* Below PIPE_BUF, so that a write to a pipe is atomic (pipe(7)). */
#define LINE_MAX_LEN 1024
/* Room for the note on messages left out, and for the line's end. */
#define LEFT_OUT_LEN 48

static const char *log_name = "tproxy";
static _Atomic enum log_level log_max = LOG_LEVEL_INFO;
static bool log_journal;

/*
 * JOURNAL_STREAM is inherited: it holds the device and inode that stderr had at the start
 * (systemd.exec(5)). It counts only if stderr still is that file.
 */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *name, enum log_level level)
{
	log_name = name;
	log_journal = stderr_is_journal();
	log_set_level(level);
}

/* The first error of a write of the answer, -errno. */
static int answer_error;

void log_answer_failed(void)
{
	if (answer_error == 0)
		answer_error = -errno;
}

int log_answered(void)
{
	int r = answer_error;

	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	else if (r == 0 && ferror(stdout))
		r = -EIO;
	if (r < 0)
		log_err("cannot write the answer: %s", strerror(-r));
	return r;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_max, level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return level <= atomic_load_explicit(&log_max, memory_order_relaxed);
}

/*
 * GCRA: due_ms is the theoretical arrival time of the next message. A message is dropped if due_ms
 * is more than the burst ahead of now.
 */
bool log_limit_take(struct log_limit *limit, uint64_t now_ms, uint64_t *ret_left_out)
{
	uint64_t due_ms = atomic_load_explicit(&limit->due_ms, memory_order_relaxed);
	uint64_t from_ms;

	do {
		from_ms = due_ms > now_ms ? due_ms : now_ms;
		if (from_ms - now_ms > (LIMIT_BURST - 1) * LIMIT_INTERVAL_MS) {
			atomic_fetch_add_explicit(&limit->left_out, 1, memory_order_relaxed);
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&limit->due_ms, &due_ms, from_ms + LIMIT_INTERVAL_MS, memory_order_relaxed,
		memory_order_relaxed));
	*ret_left_out = atomic_exchange_explicit(&limit->left_out, 0, memory_order_relaxed);
	return true;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool log_episode_begins(struct log_episode *episode)
{
	uint64_t now = now_ms();

	return now >= atomic_exchange(&episode->quiet_until_ms, now + EPISODE_QUIET_MS);
}

static _Thread_local struct log_limit *limit_here;

void log_limit_begin(struct log_limit *limit)
{
	limit_here = limit;
}

void log_limit_end(void)
{
	limit_here = NULL;
}

static size_t begin_line(char line[LINE_MAX_LEN], enum log_level level)
{
	int n;

	if (log_journal)
		n = snprintf(line, LINE_MAX_LEN, "<%d>", level);
	else
		n = snprintf(line, LINE_MAX_LEN, "%s: ", log_name);
	return n < 0 ? 0 : (size_t)n;
}

/*
 * Appends the text escaped, and leaves room for the tail. Names that others choose (of files,
 * options, processes) must not look like a line of the log nor reverse its direction. Returns the
 * length of the line.
 */
static size_t append_escaped(char line[LINE_MAX_LEN], size_t len, size_t tail, const char *text)
{
	size_t max = LINE_MAX_LEN - 1 - tail;

	escape_text(text, strlen(text), line + len, max + 1 - len);
	return len + strlen(line + len);
}

/* Reports dropped lines, before the next line that can be written. */
static void tell_lost(void)
{
	char line[LINE_MAX_LEN];
	uint64_t n;
	size_t len;
	int error;

	/* The report could be lost too, and the count with it: wait for a write that succeeds. */
	if (logfile_is_failing(STDERR_FILENO))
		return;
	n = sink_take_lost(STDERR_FILENO, &error);
	if (n == 0)
		return;
	len = begin_line(line, LOG_LEVEL_WARNING);
	len += (size_t)snprintf(line + len, sizeof(line) - len,
				"%" PRIu64 " messages were dropped here: %s\n", n, sink_why(error));
	if (sink_try(STDERR_FILENO, line, len) < 0)
		sink_give_back_lost(STDERR_FILENO, n);
}

void log_vprint(enum log_level level, const char *fmt, va_list ap)
{
	int saved_errno = errno;
	uint64_t left_out = 0;
	char line[LINE_MAX_LEN], text[LINE_MAX_LEN];
	size_t len;

	if (!log_enabled(level))
		return;
	if (limit_here && !log_limit_take(limit_here, now_ms(), &left_out)) {
		errno = saved_errno;
		return;
	}
	tell_lost();
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		*text = '\0';
	/* Some messages of libbpf and libevent end with a newline already. */
	for (len = strlen(text); len > 0 && text[len - 1] == '\n'; len--)
		text[len - 1] = '\0';
	len = append_escaped(line, begin_line(line, level), LEFT_OUT_LEN, text);
	if (left_out)
		len += (size_t)snprintf(line + len, LEFT_OUT_LEN,
					" (%" PRIu64 " like this were left out)", left_out);
	line[len++] = '\n';
	sink_write(STDERR_FILENO, line, len);
	errno = saved_errno;
}

void log_print(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vprint(level, fmt, ap);
	va_end(ap);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	struct log_limit *before = limit_here;
	va_list ap;

	limit_here = limit;
	va_start(ap, fmt);
	log_vprint(level, fmt, ap);
	va_end(ap);
	limit_here = before;
}

int log_out_of_memory(void)
{
	log_err("out of memory");
	return -ENOMEM;
}
