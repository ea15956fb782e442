/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stdout and stderr as regular files. No flag makes write(2) to a file return if its disk is slow,
 * gone or frozen. So one thread for each file writes, and other threads leave lines for it in a
 * buffer. Only that thread waits for the disk.
 *
 * The file holds whole lines only: a part of a line that found no room on the disk is cut off
 * again. Writes are always at the end of the file (O_APPEND), so it may be truncated meanwhile
 * (copytruncate).
 */
#ifndef TPROXY_LOGFILE_H
#define TPROXY_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Remembers the names of the files that stdout and stderr are. Call it once, before threads start.
 * lost() is called from another thread with the number of lines of fd that could not be written,
 * and the errno.
 */
void logfile_init(void (*lost)(int fd, uint64_t lines, int error));
/* Remembers the names again, for another stdout or stderr. Call it while there are no threads. */
void logfile_remember(void);

/*
 * Queues a copy of the line for the file that fd (stdout or stderr) is. Returns 0, or -errno if the
 * line was dropped: -EBUSY (the buffer is full) or -ENOMEM. Does not wait for the disk.
 * Thread-safe.
 */
int logfile_write(int fd, const char *line, size_t len);

/* True if logfile_write() would now take a line of PIPE_BUF bytes. */
bool logfile_has_room(int fd);

/* True if the last write to the file failed: the next lines are likely to be lost too. */
bool logfile_is_failing(int fd);

/*
 * For log rotation. A file that was renamed or removed is closed, and opened again under the name
 * that it had at the start, after the lines queued before have been written. Returns at once;
 * logfile_reopen_error() has the result.
 */
void logfile_reopen(void);

/*
 * Returns 0, or the errno (positive) of a failed logfile_reopen(), once. *ret_path is the file's
 * name, which stays valid.
 */
int logfile_reopen_error(int fd, const char **ret_path);

/*
 * Writes the queued lines and ends the threads, before the process exits or forks. They are started
 * again when needed. Waits for timeout_ms at most, whatever the disk does.
 */
void logfile_stop(unsigned int timeout_ms);

#endif
