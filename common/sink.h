/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where lines go: stderr or stdout. Command-line tools block on a write as usual. The relay must
 * not: a log reader that is slow or stuck, or a disk that is full or frozen, would stall every
 * connection. After sink_never_wait() a line that does not fit at once is dropped whole and
 * counted. Regular files are written by threads of their own (logfile.h).
 */
#ifndef TPROXY_SINK_H
#define TPROXY_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Call it first in every program. Opens /dev/null for each of the descriptors 0 to 2 that is
 * closed, so that no later socket or pipe becomes stderr; writes to it fail. Ignores SIGXFSZ, so
 * that a file at its size limit (ulimit -f) is an error of write(2) and does not end the process.
 */
void sink_init(void);

/*
 * Undoes sink_init() before execve(2), so that the new program finds everything as this program
 * found it.
 */
void sink_restore(void);

/* From now on a line is dropped instead of waited for. Call it before threads start. */
void sink_never_wait(void);

/*
 * Writes one line of at most PIPE_BUF bytes, including its \n, to stdout or stderr. Thread-safe:
 * lines do not mix. Returns false if the line was dropped, which is counted. For a regular file the
 * line is only queued; sink_take_lost() reports it if it is lost later.
 */
bool sink_write(int fd, const char *line, size_t len);

/*
 * As sink_write(), but does not count a dropped line and returns 0 or -errno: for the line that
 * reports dropped ones.
 */
int sink_try(int fd, const char *line, size_t len);

/*
 * True if sink_write() would now take one more line, unless another thread writes meanwhile: for a
 * caller that can write it later. Also true if the write would fail and waiting does not help.
 */
bool sink_has_room(int fd);

/* Returns the number of lines dropped since the start, on all descriptors. */
uint64_t sink_dropped(void);

/*
 * Returns the number of lines dropped on stdout or stderr since the last call, and the errno
 * (positive) of the last one.
 */
uint64_t sink_take_lost(int fd, int *ret_error);
/* Adds lines back to that number: the report could not be written. */
void sink_give_back_lost(int fd, uint64_t lines);

/* Describes an errno of sink_take_lost(). The string is valid until the next strerror(3). */
const char *sink_why(int error);

#endif
