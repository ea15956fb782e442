// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See origdst.h. */
#include "origdst.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "endpoint.h"
#include "tproxy_abi.h"

int origdst_get(int fd, sa_family_t family, union sockaddr_any *ret_dst,
		struct tproxy_conn *ret_conn)
{
	struct tproxy_conn conn;

	/* SO_ORIGINAL_DST will not do: conntrack answers it for any connection to the relay too. */
	if (origdst_get_conn(fd, &conn) < 0 || !conn.dst.port ||
	    endpoint_is_ipv4(&conn.dst) != (family == AF_INET) ||
	    memcmp(&conn.dst, &conn.relay, sizeof(conn.dst)) == 0)
		return ORIGDST_NOT_REDIRECTED;
	*ret_conn = conn;
	*ret_dst = endpoint_address(&conn.dst);
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
