// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See connect.h. */
#include "connect.h"

#include <errno.h>
#include <sys/socket.h>

int connect_start_addr(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (connect(fd, addr, len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	/* The handshake with a nearby server may be complete. Calling again is cheaper than poll().
	 */
	if (connect(fd, addr, len) == 0)
		return 0;
	return errno == EALREADY ? -EINPROGRESS : -errno;
}

int connect_start(int fd, const union sockaddr_any *addr)
{
	return connect_start_addr(fd, &addr->sa, sockaddr_len(addr));
}

int connect_result(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	return -error;
}

bool connect_error_is_local(int error)
{
	return error == EADDRNOTAVAIL || error == EADDRINUSE || error == EAGAIN ||
	       error == ENOBUFS || error == ENOMEM || error == EPERM || error == EACCES;
}
