// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl. See direct.h. */
#include "direct.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cgroup.h"
#include "host/cgroup_programs.h"
#include "objects.h"
#include "pinned_prog.h"
#include "util.h"

int direct_level_of(__u32 id, const struct hook *hook, const struct cgroup *cgroup)
{
	_cleanup_free_ char *path = strdup(cgroup->path);
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

int direct_level(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup)
{
	return direct_level_of(pinned_prog_id(pin_dir, hook->name), hook, cgroup);
}

void direct_others(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup,
		   struct cgroup_programs *ret_others)
{
	const __u32 id = pinned_prog_id(pin_dir, hook->name);
	char ours[BPF_OBJ_NAME_LEN], name[BPF_OBJ_NAME_LEN];
	struct cgroup_programs programs;
	__u32 i;

	*ret_others = (struct cgroup_programs){};
	snprintf(ours, sizeof(ours), "tproxy_%s", hook->name);
	if (cgroup_programs_query_at(cgroup->path, hook->attach_type, BPF_F_QUERY_EFFECTIVE,
				     &programs) < 0)
		return;
	for (i = 0; i < programs.n; i++) {
		if (programs.id[i] != id && cgroup_programs_name(programs.id[i], name) == 0 &&
		    strncmp(name, ours, sizeof(name)) == 0)
			ret_others->id[ret_others->n++] = programs.id[i];
	}
}
