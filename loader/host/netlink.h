/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Netlink requests to the kernel, in the network namespace of another process. */
#ifndef TPROXY_HOST_NETLINK_H
#define TPROXY_HOST_NETLINK_H

#include <stddef.h>
#include <sys/types.h>

struct nlmsghdr;

/*
 * Opens a socket of this netlink protocol in the network namespace of @pid. The calling process
 * itself stays in its own, and closes the socket. Returns an fd, -ENOENT if there is no such
 * process, or another -errno.
 */
int netlink_open_in(pid_t pid, int protocol);

/*
 * Sends a request for a dump, whose flags are set here, and calls @fn for each message of the
 * answer. Returns 0 or -errno. Gives up after 2 seconds without an answer.
 */
int netlink_dump(int fd, struct nlmsghdr *request,
		 void (*fn)(const struct nlmsghdr *msg, void *data), void *data);

#endif
