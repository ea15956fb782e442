// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl. See direct.h. */
#include "direct.h"

#include <bpf/bpf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cgroup.h"
#include "host/cgroup_programs.h"
#include "objects.h"
#include "util.h"

static __u32 id_of_pinned(const char *pin_dir, const struct hook *hook)
{
	_cleanup_close_ int fd = -1;
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	char path[PATH_MAX];
	int n;

	n = snprintf(path, sizeof(path), "%s/prog_%s", pin_dir, hook->name);
	if (n < 0 || (size_t)n >= sizeof(path))
		return 0;
	fd = bpf_obj_get(path);
	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 ? info.id : 0;
}

int direct_level(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup)
{
	_cleanup_free_ char *path = strdup(cgroup->path);
	const __u32 id = id_of_pinned(pin_dir, hook);
	struct cgroup_programs programs;
	int level;

	for (level = (int)cgroup->level; path && id && level >= 0; level--) {
		if (cgroup_programs_query_at(path, hook->attach_type, 0, &programs) == 0 &&
		    cgroup_programs_have(&programs, id))
			return level;
		if (strrchr(path, '/'))
			*strrchr(path, '/') = '\0';
	}
	return -1;
}

unsigned int direct_count_others(const char *pin_dir, const struct hook *hook,
				 const struct cgroup *cgroup)
{
	const __u32 id = id_of_pinned(pin_dir, hook);
	char ours[BPF_OBJ_NAME_LEN], name[BPF_OBJ_NAME_LEN];
	struct cgroup_programs programs;
	unsigned int n = 0;
	__u32 i;

	snprintf(ours, sizeof(ours), "tproxy_%s", hook->name);
	if (cgroup_programs_query_at(cgroup->path, hook->attach_type, BPF_F_QUERY_EFFECTIVE,
				     &programs) < 0)
		return 0;
	for (i = 0; i < programs.n; i++) {
		if (programs.id[i] != id && cgroup_programs_name(programs.id[i], name) == 0 &&
		    strncmp(name, ours, sizeof(name)) == 0)
			n++;
	}
	return n;
}
