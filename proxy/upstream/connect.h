/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* connect() of a non-blocking socket, in two steps. Nothing here logs, closes or waits. */
#ifndef TPROXY_CONNECT_H
#define TPROXY_CONNECT_H

#include <stdbool.h>
#include <sys/socket.h>

#include "parse.h"

/*
 * Starts to connect. Returns 0 if fd is connected, as it may be at once to a nearby server,
 * -EINPROGRESS while the handshake is under way (wait until fd is writable), or another -errno.
 */
int connect_start(int fd, const union sockaddr_any *addr);
/* The same for an address of any family. A UNIX socket with a full backlog gives -EAGAIN. */
int connect_start_addr(int fd, const struct sockaddr *addr, socklen_t len);
/* Returns the result once fd is writable: 0 if it is connected, or -errno. */
int connect_result(int fd);

/* True if connect() failed for a local reason, which says nothing about the destination. */
bool connect_error_is_local(int error);

#endif
