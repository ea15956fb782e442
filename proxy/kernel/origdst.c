// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See origdst.h. */
#include "origdst.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "tproxy_abi.h"

static bool is_mapped4(const struct tproxy_endpoint *ep)
{
	static const __u8 prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(ep->addr, prefix, sizeof(prefix)) == 0;
}

int origdst_get(int fd, sa_family_t family, union sockaddr_any *ret_dst,
		struct tproxy_conn *ret_conn)
{
	union sockaddr_any dst = {};
	struct tproxy_conn conn;

	/* SO_ORIGINAL_DST will not do: conntrack answers it for any connection to the relay too. */
	if (origdst_get_conn(fd, &conn) < 0 || !conn.dst.port ||
	    is_mapped4(&conn.dst) != (family == AF_INET) ||
	    memcmp(&conn.dst, &conn.relay, sizeof(conn.dst)) == 0)
		return ORIGDST_NOT_REDIRECTED;
	*ret_conn = conn;
	dst.sa.sa_family = family;
	dst.in.sin_port = htons(conn.dst.port);
	if (family == AF_INET)
		memcpy(&dst.in.sin_addr, &conn.dst.addr[12], sizeof(dst.in.sin_addr));
	else
		memcpy(&dst.in6.sin6_addr, conn.dst.addr, sizeof(dst.in6.sin6_addr));
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
