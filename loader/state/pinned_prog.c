// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See pinned_prog.h. */
#include "pinned_prog.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "util.h"

int pinned_prog_open(const char *pin_dir, const char *hook)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/prog_%s", pin_dir, hook);

	return n < 0 || (size_t)n >= sizeof(path) ? -ENAMETOOLONG : bpf_obj_get(path);
}

__u32 pinned_prog_id(const char *pin_dir, const char *hook)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = pinned_prog_open(pin_dir, hook);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 ? info.id : 0;
}
