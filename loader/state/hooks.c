// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl. The table of hooks, see hooks.h. connect comes last because it starts
 * to redirect: by then everything that a redirected connection needs is attached. Detaching begins
 * with connect. getsockopt is attached only where relays run, so that getsockopt() calls of other
 * programs do not pass through it.
 */
#include "hooks.h"

#include <string.h>

#include "util.h"

/* clang-format off */
const struct hook hooks[] = {
	{ "release", .scope = true, .attach_type = BPF_CGROUP_INET_SOCK_RELEASE },
	{ "getpeer4", .scope = true, .attach_type = BPF_CGROUP_INET4_GETPEERNAME },
	{ "getpeer6", .scope = true, .attach_type = BPF_CGROUP_INET6_GETPEERNAME },
	{ "sockopt", .relay = true, .attach_type = BPF_CGROUP_GETSOCKOPT },
	{ "sweep", .relay = true, .attach_type = BPF_CGROUP_INET4_BIND },
	/* Pinned but not attached: bpffs_sweep() runs it with BPF_PROG_RUN. */
	{ "sweep_now", .relay = false },
	{ "sockops", .scope = true, .relay = true, .attach_type = BPF_CGROUP_SOCK_OPS },
	{ "connect4", .scope = true, .attach_type = BPF_CGROUP_INET4_CONNECT },
	{ "connect6", .scope = true, .attach_type = BPF_CGROUP_INET6_CONNECT },
};
/* clang-format on */
const size_t n_hooks = ARRAY_SIZE(hooks);

const struct hook *hook_by_name(const char *name)
{
	size_t i;

	for (i = 0; i < n_hooks; i++) {
		if (strcmp(hooks[i].name, name) == 0)
			return &hooks[i];
	}
	return NULL;
}
