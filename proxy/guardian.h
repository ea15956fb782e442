/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * --drain-in-background: the process that was started does not serve. It is the guardian of a child
 * that does, and ends at once when it is told to. The child sees that, and drains without it. So
 * a service manager, which starts the next relay only when this one has ended, need not wait for
 * the last connection, and there is no moment without a relay.
 *
 * The guardian holds the listening sockets too. If the child is killed or crashes, clients wait in
 * the backlog for the next child, which the guardian starts; only what the child served is lost.
 */
#ifndef TPROXY_GUARDIAN_H
#define TPROXY_GUARDIAN_H

#include <stdbool.h>
#include <stdint.h>

#include "tproxy_abi.h"

#define GUARDIAN_SOCKETS_MAX (_TPROXY_FAMILY_MAX * TPROXY_PORTS_MAX)

/* What a child starts with. It owns all descriptors. */
struct guardian_child {
	int fd;	    /* readable (end of file) when the guardian is gone; takes what notify() says */
	bool again; /* not the first one */
	int sockets[GUARDIAN_SOCKETS_MAX]; /* that the one before it listened on */
	uint32_t n_sockets;
};

/*
 * Forks; to be called before there are threads. In each child returns 0. In the guardian returns 1
 * when it is to exit with *ret_status. -errno, logged.
 */
int guardian_run(struct guardian_child *ret_child, int *ret_status);

/*
 * For the child, with the fd it has got: the guardian holds these listening sockets, copies of
 * which it gets, instead of those before; none with n 0.
 */
void guardian_hold(int fd, const int *sockets, uint32_t n);

#endif
