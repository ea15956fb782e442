/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stdout and stderr where they are regular files. No flag makes a write(2) to a file return when
 * its disk is slow, gone or frozen, so a thread for each file writes, and others leave lines for it
 * in a buffer. That thread alone waits for the disk.
 *
 * A file holds whole lines only: what was written of a line that found no more room is cut off
 * again. Writing is always at the end of the file, so it may be emptied meanwhile (copytruncate).
 */
#ifndef TPROXY_LOGFILE_H
#define TPROXY_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Remembers the names of the files that stdout and stderr are. Called once, before there are
 * threads. lost is told, from another thread, how many lines of fd could not be written, and the
 * errno.
 */
void logfile_init(void (*lost)(int fd, uint64_t lines, int error));
/* The names alone, anew: while there are no threads. */
void logfile_remember(void);

/* Leaves a line for the file that fd, stdout or stderr, is. 0, or -errno: it was dropped. */
int logfile_write(int fd, const char *line, size_t len);

/* Has the last writing of lines failed? Then the next lines are likely to be lost too. */
bool logfile_is_failing(int fd);

/*
 * Files that have been renamed are left, and made anew under the name that they had at the start,
 * once what was left before has been written. Returns at once; see logfile_reopen_error().
 */
void logfile_reopen(void);

/* 0, or once the errno of a failed opening, with the file's name, which stays valid. */
int logfile_reopen_error(int fd, const char **ret_path);

/*
 * Writes what has been left and ends the threads, which are started again when needed: before the
 * process ends or forks. Whatever the disk does, this waits for timeout_ms at most.
 */
void logfile_stop(unsigned int timeout_ms);

#endif
