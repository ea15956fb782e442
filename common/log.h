/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One line a message, to stderr, in one write(). Where stderr is the journal (JOURNAL_STREAM) a
 * line begins with its level as <N> (sd-daemon(3)), else with the program's name. errno survives.
 */
#ifndef TPROXY_LOG_H
#define TPROXY_LOG_H

#include <stdarg.h>
#include <stdbool.h>

#include "util.h"

/* Numbers of syslog(3), which journald reads. */
enum log_level {
	LOG_LEVEL_ERR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* name must stay valid. Messages above level are dropped. May be called again with another level.
 */
void log_init(const char *name, enum log_level level);
bool log_enabled(enum log_level level);
void log_vprint(enum log_level level, const char *fmt, va_list ap) _printf_(2, 0);
void log_print(enum log_level level, const char *fmt, ...) _printf_(2, 3);

#define log_err(...)	 log_print(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_print(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_print(LOG_LEVEL_DEBUG, __VA_ARGS__);                                   \
	} while (0)

#endif
