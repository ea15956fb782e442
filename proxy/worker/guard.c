// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See guard.h. */
#include "guard.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parse.h"
#include "util.h"

int guard_open(int listen_fd)
{
	union sockaddr_any addr = {}, other = {};
	socklen_t len = sizeof(addr);
	_cleanup_close_ int fd = -1;
	const int on = 1;

	if (getsockname(listen_fd, &addr.sa, &len) < 0)
		return -errno;
	/* The port is at the same place in both, and zeros are the wildcard address. */
	other.sa.sa_family = addr.sa.sa_family == AF_INET6 ? AF_INET : AF_INET6;
	other.in.sin_port = addr.in.sin_port;
	fd = socket(other.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* SO_REUSEPORT: listeners of both families and other relays of this user may be there. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    (other.sa.sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, &other.sa, sockaddr_len(&other)) < 0)
		return -errno;
	return TAKE_FD(fd);
}
