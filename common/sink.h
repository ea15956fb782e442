/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where lines go: stderr or stdout. A command waits until its line is read. A service that serves
 * others must not: a log that is read slowly, or not at all, or lies on a disk that is full or
 * stands still, would hold up every connection. There a line for which there is no room at once is
 * dropped whole, and counted. Files are written by threads of their own, see logfile.h.
 */
#ifndef TPROXY_SINK_H
#define TPROXY_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * First of all in every program: where one of the descriptors 0 to 2 is closed, /dev/null is opened
 * there, so that no socket or pipe of ours is taken for stderr. What is written there fails. And a
 * file that has reached its limit of size (ulimit -f) is an error of write(2), not the end.
 */
void sink_init(void);

/* From now on lines are dropped rather than waited with. Before there are threads. */
void sink_never_wait(void);

/*
 * One line, its \n included, of at most PIPE_BUF bytes, from any thread; lines do not mix. False:
 * it was dropped. What is lost later is told by sink_take_lost() alone.
 */
bool sink_write(int fd, const char *line, size_t len);

/* The same, without counting. 0 or -errno. For the line that tells of those that were dropped. */
int sink_try(int fd, const char *line, size_t len);

/* Lines dropped so far, of all descriptors. */
uint64_t sink_dropped(void);

/* Those of stdout or stderr since it was last asked, and the errno of the last one. */
uint64_t sink_take_lost(int fd, int *ret_error);
/* They could not be told of. */
void sink_give_back_lost(int fd, uint64_t lines);

/* Why a line was lost, in words: an errno of sink_take_lost(). */
const char *sink_why(int error);

#endif
