// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See local.h. connect() of a UDP socket sends nothing, but chooses the source address by the
 * routing table. For an address of this host the source is the address itself. bind() cannot be
 * used: with net.ipv4.ip_nonlocal_bind it succeeds for foreign addresses too.
 */
#include "local.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "util.h"

/* Limit of messages read by one call of local_watched(). */
#define MESSAGES_MAX 1000

static bool lo_is_up(int fd)
{
	struct ifreq request = { .ifr_name = "lo" };

	return ioctl(fd, SIOCGIFFLAGS, &request) < 0 || request.ifr_flags & IFF_UP;
}

static bool is_same_address(const union sockaddr_any *a, const union sockaddr_any *b)
{
	if (a->sa.sa_family == AF_INET6)
		return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
	return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
}

bool local_is_reached(const union sockaddr_any *addr)
{
	_cleanup_close_ int fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	union sockaddr_any source = {};
	socklen_t len = sizeof(source);

	if (fd < 0)
		return true;
	if (!lo_is_up(fd))
		return false;
	if (connect(fd, &addr->sa, sockaddr_len(addr)) < 0)
		return errno != ENETUNREACH && errno != EHOSTUNREACH && errno != EADDRNOTAVAIL;
	if (getsockname(fd, &source.sa, &len) < 0)
		return true;
	/* All of 127.0.0.0/8 is local: the source for 127.0.0.2 is 127.0.0.1. */
	if (addr->sa.sa_family == AF_INET && ntohl(addr->in.sin_addr.s_addr) >> 24 == 127)
		return ntohl(source.in.sin_addr.s_addr) >> 24 == 127;
	return is_same_address(addr, &source);
}

bool local_is_broadcast(const union sockaddr_any *addr)
{
	_cleanup_close_ int fd = -1;

	if (addr->sa.sa_family != AF_INET)
		return false;
	/* connect() of a UDP socket without SO_BROADCAST refuses a broadcast address with EACCES.
	 */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && connect(fd, &addr->sa, sockaddr_len(addr)) < 0 && errno == EACCES;
}

int local_watch(void)
{
	const struct sockaddr_nl groups = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
	};
	_cleanup_close_ int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&groups, sizeof(groups)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

void local_watched(int fd)
{
	char buf[4096];
	int left = MESSAGES_MAX;

	/* ENOBUFS: messages were lost, which is a change too. If more messages are left, the
	 * descriptor stays readable. */
	while (left-- > 0 && (recv(fd, buf, sizeof(buf), 0) >= 0 || errno == ENOBUFS))
		;
}
