// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl. See namespaces.h. The initial namespaces have fixed inode numbers:
 * include/linux/proc_ns.h.
 */
#include "namespaces.h"

#include <sys/stat.h>

bool namespaces_is_initial(enum namespaces_kind kind)
{
	static const struct {
		const char *path;
		ino_t inode;
	} initial[_NAMESPACES_KIND_MAX] = {
		[NAMESPACES_CGROUP] = { "/proc/self/ns/cgroup", 0xEFFFFFFB },
		[NAMESPACES_PID] = { "/proc/self/ns/pid", 0xEFFFFFFC },
		[NAMESPACES_USER] = { "/proc/self/ns/user", 0xEFFFFFFD },
	};
	struct stat st;

	return stat(initial[kind].path, &st) == 0 && st.st_ino == initial[kind].inode;
}
