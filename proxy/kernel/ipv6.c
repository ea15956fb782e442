// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See ipv6.h. The kernel's routes as text: ten fields in a line, RTF_* flags in the ninth. */
#include "ipv6.h"

#include <errno.h>
#include <linux/ipv6_route.h>
#include <linux/route.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

static bool is_reachable(const char *dst, unsigned int plen, unsigned int flags, const char *device)
{
	if (!(flags & RTF_UP) || flags & RTF_REJECT || strcmp(device, "lo") == 0)
		return false;
	if (plen >= 8 && strncmp(dst, "ff", 2) == 0)
		return false;
	return !(plen >= 10 && strncmp(dst, "fe8", 3) == 0);
}

bool ipv6_is_routed(bool otherwise)
{
	/* ProcSubset=pid (systemd.exec(5)) hides /proc/net, but not /proc/self/net. */
	_cleanup_fclose_ FILE *f = fopen("/proc/self/net/ipv6_route", "re");
	char dst[33], device[32], line[256];
	unsigned int plen, flags;
	bool found = false;

	/* ENOENT: there is no IPv6. */
	if (!f)
		return errno == ENOENT ? false : otherwise;
	while (!found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%32s %x %*s %*s %*s %*s %*s %*s %x %31s", dst, &plen, &flags,
			   device) == 4)
			found = is_reachable(dst, plen, flags, device);
	}
	return found;
}

bool ipv6_is_present(void)
{
	const struct sockaddr_in6 addr = { .sin6_family = AF_INET6,
					   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0;
}
