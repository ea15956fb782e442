/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where lines go: stderr or stdout. A command waits until its line is read. A service that serves
 * others must not: who reads its log slowly, or not at all, would hold up every connection. There a
 * line for which there is no room at once is dropped whole, and counted.
 */
#ifndef TPROXY_SINK_H
#define TPROXY_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From now on lines are dropped rather than waited with. */
void sink_never_wait(void);

/* One line of at most PIPE_BUF bytes, from any thread; lines do not mix. False: it was dropped. */
bool sink_write(int fd, const char *line, size_t len);

/* Lines dropped so far, of all descriptors. */
uint64_t sink_dropped(void);

#endif
