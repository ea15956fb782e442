// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See origdst.h. */
#include "origdst.h"

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <sys/socket.h>

#include "tproxy_abi.h"

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

int origdst_get_conn(int fd, struct tproxy_conn *ret_conn)
{
	struct tproxy_conn conn;
	socklen_t len = sizeof(conn);

	if (getsockopt(fd, SOL_IP, TPROXY_SO_CONN, &conn, &len) < 0)
		return -errno;
	if (len != sizeof(conn))
		return -EPROTO;
	*ret_conn = conn;
	return 0;
}
