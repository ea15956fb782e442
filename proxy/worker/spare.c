// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See spare.h. */
#include "spare.h"

#include <errno.h>
#include <sys/socket.h>

#include "kernel/marks.h"
#include "session/env.h"
#include "upstream/sock.h"
#include "util.h"

/*
 * How often to check the exemption, in connections. If this process is moved out of the relay
 * cgroup, or a loader changes that cgroup, at most this many upstream connections are redirected
 * back to the relay before their sockets are marked again.
 */
#define EXEMPT_CHECK_EVERY 16

/*
 * True while this process is in the relay cgroup. connect4 and connect6 then skip its sockets, and
 * the UPSTREAM mark can be left out: it costs as much as three other system calls. Checked every
 * EXEMPT_CHECK_EVERY connections.
 */
static bool is_exempt(struct spare *spare, struct session_env *env, int query_fd)
{
	if (spare->since_exempt_check == 0)
		spare->exempt = env->exempt = marks_is_exempt(query_fd);
	spare->since_exempt_check = (spare->since_exempt_check + 1) % EXEMPT_CHECK_EVERY;
	return spare->exempt;
}

int spare_prepare(struct spare *spare, struct session_env *env, sa_family_t family, int query_fd)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (spare->fd >= 0)
		return 0;
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!is_exempt(spare, env, query_fd)) {
		r = marks_set_upstream(&env->marks, fd);
		if (r < 0)
			return r;
	}
	sock_prepare(fd);
	spare->fd = TAKE_FD(fd);
	return 0;
}

void spare_close(struct spare *spare)
{
	util_closep(&spare->fd);
	*spare = (struct spare)SPARE_NULL;
}
