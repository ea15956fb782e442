// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See sock.h. */
#include "sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

static int set_linger(int fd, bool abort)
{
	const struct linger linger = { .l_onoff = abort, .l_linger = 0 };

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0 ? -errno : 0;
}

int sock_abort_on_close(int fd)
{
	return set_linger(fd, true);
}

void sock_close_reset(int fd)
{
	const struct sockaddr unspec = { .sa_family = AF_UNSPEC };

	/* If setsockopt() is refused, for example by a foreign BPF program, disconnecting resets
	 * too (connect(2)). */
	if (sock_abort_on_close(fd) < 0)
		connect(fd, &unspec, sizeof(unspec));
	close(fd);
}

void sock_prepare(int fd)
{
	const int on = 1;

	sock_abort_on_close(fd);
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
}

void sock_close_well(int fd)
{
	/* Try again once, in case the failure was transient. If it persists, the peer gets a reset.
	 */
	if (set_linger(fd, false) < 0)
		set_linger(fd, false);
	close(fd);
}

uint64_t sock_queued(int fd)
{
	int n;

	return ioctl(fd, SIOCOUTQ, &n) == 0 ? (uint64_t)n : 0;
}

void sock_set_quickack(int fd, int on)
{
	setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

int sock_get_tcp(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value = 0;

	return getsockopt(fd, IPPROTO_TCP, name, &value, &len) == 0 ? value : 0;
}

void sock_set_tcp(int fd, int name, int value)
{
	setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value));
}
