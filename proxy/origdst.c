// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See origdst.h. */
#include "origdst.h"

#include <linux/netfilter_ipv4.h>
#include <sys/socket.h>

int origdst_get(int fd, struct sockaddr_in *ret_dst)
{
	struct sockaddr_in dst;
	socklen_t len = sizeof(dst);

	/* Without our answer the kernel's own: ENOPROTOOPT, or ENOENT with netfilter's conntrack.
	 */
	if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &dst, &len) < 0)
		return ORIGDST_NOT_REDIRECTED;
	if (len != sizeof(dst) || dst.sin_family != AF_INET || !dst.sin_port)
		return ORIGDST_NOT_REDIRECTED;
	*ret_dst = dst;
	return ORIGDST_FOUND;
}
