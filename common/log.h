/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The log: one line per message, to stderr, in one write(). If stderr is the journal
 * (JOURNAL_STREAM), a line starts with its level as <N> (sd-daemon(3)), otherwise with the
 * program's name. Printing keeps errno and is thread-safe. sink.h says what happens to a line that
 * cannot be written; the next line that can be written is preceded by the number dropped.
 */
#ifndef TPROXY_LOG_H
#define TPROXY_LOG_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util.h"

/* The numbers are those of syslog(3), which journald reads. */
enum log_level {
	LOG_LEVEL_ERR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Call it before threads start. name is kept, not copied. Messages above level are dropped. */
void log_init(const char *name, enum log_level level);
/*
 * Flushes stdout at the end of a command that has answered there. Returns 0, or -errno, which is
 * logged: a full disk or a closed pipe must not look like a complete answer.
 */
int log_answered(void);
/*
 * Call it when a write to stdout has failed. It keeps errno for log_answered(), because a longer
 * answer is written in parts and stdio does not keep the reason of a failure.
 */
void log_answer_failed(void);
/* May be called at any time, from any thread. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
void log_vprint(enum log_level level, const char *fmt, va_list ap) _printf_(2, 0);
void log_print(enum log_level level, const char *fmt, ...) _printf_(2, 3);

/*
 * A rate limit for messages that others can provoke: 5 at once, then one a minute, which reports
 * how many were left out. A zeroed struct is ready for use, by all threads.
 */
struct log_limit {
	_Atomic uint64_t due_ms;
	_Atomic uint64_t left_out;
};

/*
 * Returns true if one more message may be logged at now_ms (milliseconds of a monotonic clock).
 * *ret_left_out is then the number left out since the last one.
 */
bool log_limit_take(struct log_limit *limit, uint64_t now_ms, uint64_t *ret_left_out);
/*
 * Logs a message that is subject to this limit, and not to that of log_limit_begin(). With limit
 * NULL it is subject to none.
 */
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
	_printf_(3, 4);

/*
 * An episode: events that are one incident to the reader of the log, however many threads meet it.
 * It starts with the first event after 10 s without one. A zeroed struct is ready for use.
 */
struct log_episode {
	_Atomic uint64_t quiet_until_ms;
};

/*
 * Call it for each event. Returns true for the first one after 10 s of quiet: log it; the rest
 * belong to the same episode.
 */
bool log_episode_begins(struct log_episode *episode);

/*
 * Between these calls all messages of this thread are subject to the limit: for checks that run
 * every second. One limit for each thread at a time: begin replaces, end clears.
 */
void log_limit_begin(struct log_limit *limit);
void log_limit_end(void);

/* Logs that an allocation failed. Returns -ENOMEM. */
int log_out_of_memory(void);

#define log_err(...)	 log_print(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_print(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_print(LOG_LEVEL_DEBUG, __VA_ARGS__);                                   \
	} while (0)

#endif
