// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See whoami.h. */
#include "whoami.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tproxy_abi.h"

int whoami_query(int fd, struct tproxy_whoami *ret_whoami)
{
	struct tproxy_whoami answer = {};
	socklen_t len = sizeof(answer);

	if (getsockopt(fd, SOL_IP, TPROXY_SO_WHOAMI, &answer, &len) < 0)
		return -errno;
	if (len != sizeof(answer))
		return -EPROTO;
	*ret_whoami = answer;
	return 0;
}
