// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See origdst.h. */
#include "origdst.h"

#include <linux/netfilter_ipv4.h>
#include <sys/socket.h>

int origdst_get(int fd, sa_family_t family, union sockaddr_any *ret_dst)
{
	union sockaddr_any dst = {};
	socklen_t len = sizeof(dst);
	int level = family == AF_INET6 ? SOL_IPV6 : SOL_IP;

	/* Without our answer the kernel's own: ENOPROTOOPT, or ENOENT with conntrack. */
	if (getsockopt(fd, level, SO_ORIGINAL_DST, &dst, &len) < 0)
		return ORIGDST_NOT_REDIRECTED;
	if (dst.sa.sa_family != family || len != sockaddr_len(&dst) || !dst.in.sin_port)
		return ORIGDST_NOT_REDIRECTED;
	*ret_dst = dst;
	return ORIGDST_FOUND;
}
