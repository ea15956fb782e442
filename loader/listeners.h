/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The listening TCP sockets of another process, borrowed with pidfd_getfd(2): a socket's own
 * descriptor is what its mark is set and read by, and who holds it is proof of whose it is.
 */
#ifndef TPROXY_LOADER_LISTENERS_H
#define TPROXY_LOADER_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tproxy_abi.h"

struct listener {
	int fd;	   /* ours to close */
	pid_t pid; /* who holds it */
	struct tproxy_endpoint ep;
	uint64_t netns_cookie;
	bool only6; /* a wildcard of IPv6 alone, not of both families */
	bool mptcp; /* then the socket that gets connections is another one, which nobody holds */
};

struct listeners {
	struct listener *list;
	size_t n;
};

/*
 * Those of a process, or if it has none itself, those of its descendants: a master has closed what
 * its workers accept from. ports, if n_ports is not 0: only at these. A socket is there once for
 * each descriptor. It is no error if there is none. -ESRCH: no such process; -EPERM, -EACCES: we
 * may not look.
 */
int listeners_borrow(pid_t pid, const __u16 *ports, size_t n_ports, struct listeners *ret);
void listeners_finish(struct listeners *listeners);

/* 0.0.0.0 or ::, and at those: both families, unless only6. */
bool listeners_is_any4(const __u8 addr[16]);
bool listeners_is_any6(const __u8 addr[16]);

/* Does it get connections to this address? */
bool listeners_takes(const struct listener *l, const struct tproxy_endpoint *ep);

/* Does any process listen there, in the network namespace of this one? */
bool listeners_anybody(pid_t pid, const struct tproxy_endpoint *ep);

#endif
