/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * --drain-in-background: the guardian, a supervisor. The process that was started does not serve.
 * It forks a child that does, and passes signals to it.
 *
 * Restart: on SIGTERM the guardian exits immediately. The child reads EOF on the socket pair
 * between the two. It serves until another relay has registered, and then drains. A service manager
 * starts the next relay only when this process has ended. It need not wait for the last
 * connection, and there is no moment without a relay.
 *
 * Crash: the guardian holds duplicates of the listening sockets. If a signal kills the child,
 * clients wait in the backlog while the guardian forks the next child. Only the connections of the
 * killed child are lost.
 */
#ifndef TPROXY_GUARDIAN_H
#define TPROXY_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>

#include "tproxy_abi.h"

#define GUARDIAN_SOCKETS_MAX (_TPROXY_FAMILY_MAX * TPROXY_PORTS_MAX)

/* What a child starts with. The child owns all descriptors. */
struct guardian_child {
	int fd;	    /* socket pair: EOF when the guardian is gone; takes notify()'s messages */
	bool again; /* not the first child */
	int sockets[GUARDIAN_SOCKETS_MAX]; /* listening sockets of the child before it */
	uint32_t n_sockets;
};

/*
 * Forks children and supervises them. Called before the process has threads. Returns 0 in each
 * child, with *ret_child set. Returns 1 in the guardian, which must then exit with *ret_status.
 * Returns -errno, logged, if a child cannot be started.
 */
int guardian_run(struct guardian_child *ret_child, int *ret_status);

/*
 * Called by the child, with guardian_child::fd. Sends duplicates of n listening sockets, which the
 * guardian holds instead of those before. With n 0 it holds none. Errors are ignored: the guardian
 * may be gone.
 */
void guardian_hold(int fd, const int *sockets, uint32_t n);

#endif
