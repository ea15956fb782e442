// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See log.h. A message longer than the buffer is cut, never split over two lines. */
#include "log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *log_name = "tproxy";
static _Atomic enum log_level log_max = LOG_LEVEL_INFO;
static bool log_journal;

/* JOURNAL_STREAM is inherited; it names the device and inode that stderr then was
 * (systemd.exec(5)). */
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
	atomic_store_explicit(&log_max, level, memory_order_relaxed);
	log_journal = stderr_is_journal();
}

bool log_enabled(enum log_level level)
{
	return level <= atomic_load_explicit(&log_max, memory_order_relaxed);
}

void log_vprint(enum log_level level, const char *fmt, va_list ap)
{
	int saved_errno = errno;
	char line[1024];
	size_t len;
	int n;

	if (!log_enabled(level))
		return;
	if (log_journal)
		n = snprintf(line, sizeof(line), "<%d>", level);
	else
		n = snprintf(line, sizeof(line), "%s: ", log_name);
	len = (size_t)n;
	n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	if (n < 0)
		n = 0;
	len += (size_t)n;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	/* libbpf and libevent end some of their messages themselves. */
	while (len > 0 && line[len - 1] == '\n')
		len--;
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0) {
		/* Nowhere left to say it. */
	}
	errno = saved_errno;
}

void log_print(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vprint(level, fmt, ap);
	va_end(ap);
}
