/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The BPF programs on a hook of a cgroup, as the kernel lists them. */
#ifndef TPROXY_HOST_CGROUP_PROGRAMS_H
#define TPROXY_HOST_CGROUP_PROGRAMS_H

#include <linux/bpf.h>
#include <stdbool.h>

/*
 * The kernel attaches at most 64 programs to one hook of a cgroup. The list of
 * BPF_F_QUERY_EFFECTIVE also has the programs of the cgroups above.
 */
#define CGROUP_PROGRAMS_MAX 256

struct cgroup_programs {
	__u32 id[CGROUP_PROGRAMS_MAX];
	__u32 n;
	__u32 flags; /* flags of the attachment, such as BPF_F_ALLOW_MULTI */
};

/*
 * Lists the programs that are attached to the cgroup itself or, if @flags is BPF_F_QUERY_EFFECTIVE,
 * all programs that run for it. If there are more than CGROUP_PROGRAMS_MAX, the list has the first
 * ones. Returns 0 or -errno, not logged.
 */
int cgroup_programs_query(int cgroup_fd, enum bpf_attach_type type, __u32 flags,
			  struct cgroup_programs *ret_programs);

/* The same for the cgroup at @path. */
int cgroup_programs_query_at(const char *path, enum bpf_attach_type type, __u32 flags,
			     struct cgroup_programs *ret_programs);

bool cgroup_programs_have(const struct cgroup_programs *programs, __u32 id);

/*
 * Writes the name of a program, which may be "" and has no NUL at its full length. Returns 0 or
 * -errno, not logged: opening a program by its id takes CAP_SYS_ADMIN.
 */
int cgroup_programs_name(__u32 id, char ret_name[BPF_OBJ_NAME_LEN]);

#endif
