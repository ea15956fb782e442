// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See pinned_link.h. */
#include "pinned_link.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "util.h"

int pinned_link_read(const struct pins *pins, const char *name, struct pinned_link *ret_link)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = -1;
	struct pinned_link link;
	char path[PATH_MAX];
	int r;

	r = pins_parse_link(name, link.hook, &link.cgroup_id);
	if (r < 0)
		return r;
	if (snprintf(path, sizeof(path), "%s/%s", pins->path, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	r = fd < 0 ? fd : bpf_obj_get_info_by_fd(fd, &info, &len);
	if (r < 0)
		return r;
	link.link_id = info.id;
	link.prog_id = info.prog_id;
	/* For a detached link the kernel reports cgroup id 0. */
	link.attached = info.cgroup.cgroup_id == link.cgroup_id;
	*ret_link = link;
	return 0;
}
