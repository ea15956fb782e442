// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load, and tproxyctl doctor. See cgroup_programs.h. */
#include "cgroup_programs.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "util.h"

int cgroup_programs_query(int cgroup_fd, enum bpf_attach_type type, __u32 flags,
			  struct cgroup_programs *ret_programs)
{
	struct cgroup_programs programs;
	LIBBPF_OPTS(bpf_prog_query_opts, opts, .query_flags = flags, .prog_ids = programs.id,
		    .prog_cnt = CGROUP_PROGRAMS_MAX);
	int r = bpf_prog_query_opts(cgroup_fd, type, &opts);

	/*
	 * -ENOSPC: there are more programs than the array has room for, and it holds the first
	 * ones.
	 */
	if (r < 0 && r != -ENOSPC)
		return r;
	programs.n = opts.prog_cnt < CGROUP_PROGRAMS_MAX ? opts.prog_cnt : CGROUP_PROGRAMS_MAX;
	programs.flags = opts.attach_flags;
	*ret_programs = programs;
	return 0;
}

int cgroup_programs_query_at(const char *path, enum bpf_attach_type type, __u32 flags,
			     struct cgroup_programs *ret_programs)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : cgroup_programs_query(fd, type, flags, ret_programs);
}

bool cgroup_programs_have(const struct cgroup_programs *programs, __u32 id)
{
	__u32 i;

	for (i = 0; i < programs->n; i++) {
		if (programs->id[i] == id)
			return true;
	}
	return false;
}

int cgroup_programs_name(__u32 id, char ret_name[BPF_OBJ_NAME_LEN])
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);
	int r = fd < 0 ? fd : bpf_obj_get_info_by_fd(fd, &info, &len);

	if (r == 0)
		memcpy(ret_name, info.name, BPF_OBJ_NAME_LEN);
	return r;
}
