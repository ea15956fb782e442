/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Operations of a session on one TCP socket: closing, and options. Nothing here logs. */
#ifndef TPROXY_SOCK_H
#define TPROXY_SOCK_H

#include <stdint.h>

/*
 * Makes every close of fd a reset, which discards queued data (SO_LINGER, socket(7)). All sockets
 * of a session are in this mode until it ends well. If the relay is killed, the kernel closes them,
 * and a truncated stream must not look complete. Returns 0 or -errno.
 */
int sock_abort_on_close(int fd);
/*
 * Sets the options that a socket needs before its session is created: sock_abort_on_close() and
 * SO_OOBINLINE (see pump.h). Accepted sockets inherit both from their listener.
 */
void sock_prepare(int fd);

/* Closes fd so that its peer sees a reset. */
void sock_close_reset(int fd);
/* Closes fd so that queued data is still sent, followed by a FIN. */
void sock_close_well(int fd);

/* Returns how many bytes written to fd its peer has not acknowledged; 0 if unknown. */
uint64_t sock_queued(int fd);

/*
 * TCP_QUICKACK (tcp(7)). On, as on a new socket: the kernel acknowledges data immediately. Off: it
 * delays the acknowledgement, so that it can go with our first data.
 */
void sock_set_quickack(int fd, int on);

/* An option of IPPROTO_TCP (tcp(7)). sock_get_tcp() returns 0 if it cannot be read. */
int sock_get_tcp(int fd, int name);
void sock_set_tcp(int fd, int name, int value);

#endif
