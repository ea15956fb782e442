/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One line a message, to stderr, in one write(). Where stderr is the journal (JOURNAL_STREAM) a
 * line begins with its level as <N> (sd-daemon(3)), else with the program's name. errno survives.
 * What becomes of lines that cannot be written is in sink.h; that some were dropped is said in the
 * next one.
 */
#ifndef TPROXY_LOG_H
#define TPROXY_LOG_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util.h"

/* Numbers of syslog(3), which journald reads. */
enum log_level {
	LOG_LEVEL_ERR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Before there are threads. name must stay valid. Messages above level are dropped. */
void log_init(const char *name, enum log_level level);
/*
 * Flushes stdout at the end of a command that has answered there. 0, or -errno, which is logged: a
 * full disk or a closed pipe must not look like a complete answer.
 */
int log_answered(void);
/* At any time. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
void log_vprint(enum log_level level, const char *fmt, va_list ap) _printf_(2, 0);
void log_print(enum log_level level, const char *fmt, ...) _printf_(2, 3);

/*
 * For messages that others can provoke again and again: a few at once, then one a minute, which
 * says how many were left out. Zeroed, it is ready; for all threads.
 */
struct log_limit {
	_Atomic uint64_t due_ms;
	_Atomic uint64_t left_out;
};

/* May one more be printed? If so, how many were not since the last one. */
bool log_limit_take(struct log_limit *limit, uint64_t now_ms, uint64_t *ret_left_out);
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
	_printf_(3, 4);

/*
 * For what is one thing to whoever reads the log, however many meet it: an episode begins when
 * nothing of it has been seen for 10 seconds. Zeroed, it is ready; for all threads.
 */
struct log_episode {
	_Atomic uint64_t quiet_until_ms;
};

/* Here it is again: is this the first of an episode, which is to be logged? */
bool log_episode_begins(struct log_episode *episode);

/* All that this thread logs in between is under this limit: for what runs every second. */
void log_limit_begin(struct log_limit *limit);
void log_limit_end(void);

#define log_err(...)	 log_print(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_print(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_print(LOG_LEVEL_DEBUG, __VA_ARGS__);                                   \
	} while (0)

#endif
