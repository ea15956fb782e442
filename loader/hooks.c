// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See hooks.h. connect comes last, because it is what starts to redirect: all that a redirected
 * connection meets later is there by then. Detaching goes the other way. getsockopt is attached
 * where relays are and nowhere else, so that no other program's getsockopt() passes through it.
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
	/* Attached nowhere: run by bpffs_sweep(). */
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
