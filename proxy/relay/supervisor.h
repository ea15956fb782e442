/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * --drain-in-background: the supervisor. It is the process that was started, and does not serve. It
 * forks a child that serves, and passes signals to it.
 *
 * Restart: on SIGTERM the supervisor exits immediately. The child reads EOF on the socket pair
 * between the two. It serves until another relay has registered, and then drains. A service manager
 * starts the next relay only when this process has ended. It need not wait for the last
 * connection, and there is no moment without a relay.
 *
 * Crash: the supervisor holds duplicates of the listening sockets. If a signal kills the child,
 * clients wait in the backlog while the supervisor forks the next child. Only the connections of
 * the killed child are lost.
 */
#ifndef TPROXY_SUPERVISOR_H
#define TPROXY_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#include "tproxy_abi.h"

/* Each port may have two: a pair. */
#define SUPERVISOR_SOCKETS_MAX (2 * _TPROXY_FAMILY_MAX * TPROXY_PORTS_MAX)

/* What a child starts with. The child owns all descriptors. */
struct supervisor_child {
	int fd;	    /* socket pair: EOF when the supervisor is gone; takes notify()'s messages */
	bool again; /* not the first child */
	int sockets[SUPERVISOR_SOCKETS_MAX]; /* listening sockets of the child before it */
	uint32_t n_sockets;
};

/*
 * Forks children and supervises them. Called before the process has threads. Returns 0 in each
 * child, with *ret_child set. Returns 1 in the supervisor, which must then exit with *ret_status.
 * Returns -errno, logged, if a child cannot be started.
 */
int supervisor_run(struct supervisor_child *ret_child, int *ret_status);

/*
 * Called by the child, with supervisor_child::fd. Sends duplicates of n listening sockets, which
 * the supervisor holds instead of those before. With n 0 it holds none. Errors are ignored: the
 * supervisor may be gone.
 */
void supervisor_hold(int fd, const int *sockets, uint32_t n);

#endif
