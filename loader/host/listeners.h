/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The listening TCP sockets of another process, duplicated with pidfd_getfd(2). A mark is set and
 * read through a descriptor of the socket itself. Holding the socket also proves whose it is.
 */
#ifndef TPROXY_HOST_LISTENERS_H
#define TPROXY_HOST_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tproxy_abi.h"

struct listening_socket {
	int fd;	   /* owned: listeners_finish() closes it */
	pid_t pid; /* the process that holds the socket */
	/* bound address; the port is in host byte order */
	struct tproxy_endpoint ep;
	uint64_t netns_cookie;
	bool only6; /* IPV6_V6ONLY: a wildcard is for IPv6 only */
	/* Multipath TCP: connections arrive at another socket, which no process holds */
	bool mptcp;
};

struct listeners {
	struct listening_socket *list;
	size_t n;
};

/*
 * Duplicates the listening sockets of a process or, if it has none, of its descendants: a master
 * has closed what its workers accept from. @ports, in host byte order, restricts them unless
 * @n_ports is 0. A socket appears once for each descriptor. Returns 0, also if there is none,
 * -ESRCH if there is no such process, -EPERM or -EACCES without permission, or another -errno. Not
 * logged. The caller calls listeners_finish().
 */
int listeners_dup(pid_t pid, const __u16 *ports, size_t n_ports, struct listeners *ret);
void listeners_finish(struct listeners *listeners);

/* Returns true if connections to this address and port arrive at @l. */
bool listeners_takes(const struct listening_socket *l, const struct tproxy_endpoint *ep);

/* Returns true if any process listens there, in the network namespace of @pid. */
bool listeners_anybody(pid_t pid, const struct tproxy_endpoint *ep);

#endif
