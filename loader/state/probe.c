// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl run. See probe.h. Only root may list the programs that run for a cgroup, but every
 * process may call connect(). No packet is sent, because TCP has no broadcast.
 */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tproxy_abi.h"
#include "util.h"

int probe_in_scope(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(TPROXY_PROBE_PORT),
		.sin_addr.s_addr = htonl(INADDR_BROADCAST),
	};

	if (fd < 0)
		return -errno;
	return connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 &&
	       errno == TPROXY_PROBE_ERRNO;
}
