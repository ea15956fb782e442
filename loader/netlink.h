/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Questions to the kernel by netlink, in the network namespace of another process. */
#ifndef TPROXY_LOADER_NETLINK_H
#define TPROXY_LOADER_NETLINK_H

#include <stddef.h>
#include <sys/types.h>

struct nlmsghdr;

/*
 * A socket of this netlink protocol in the namespace of pid; the caller closes it. -errno: -ENOENT
 * if there is no such process. The caller itself stays where it is.
 */
int netlink_open_in(pid_t pid, int protocol);

/*
 * Sends a request for a dump, and calls fn for each message of the answer. 0, or -errno. Gives up
 * after 2 seconds without an answer.
 */
int netlink_dump(int fd, struct nlmsghdr *request,
		 void (*fn)(const struct nlmsghdr *msg, void *data), void *data);

#endif
