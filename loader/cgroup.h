/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Control groups, version 2: where they are mounted, their ids and paths. */
#ifndef TPROXY_LOADER_CGROUP_H
#define TPROXY_LOADER_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup {
	char *path; /* canonical, owned */
	int fd;
	uint64_t id;	/* as bpf_get_current_cgroup_id() tells it */
	uint32_t level; /* depth below the root of the hierarchy, which is 0 */
};

#define CGROUP_NULL                                                                                \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/*
 * The mount point of cgroup2, by /proc/self/mountinfo: /sys/fs/cgroup, or on hybrid hosts
 * /sys/fs/cgroup/unified. Of several mounts one that shows the whole hierarchy; else the first, by
 * which cgroup_open() opens nothing. The caller frees *ret_path. -ENOENT: not mounted.
 */
int cgroup_root(char **ret_path);

/*
 * -ENOENT and others of open(2); -ENOTDIR; -EMEDIUMTYPE: exists, but is no cgroup2; -EXDEV: its
 * level cannot be told, because the mount shows a part of the hierarchy only, as in a container.
 * ret_cgroup->path begins at cgroup_root(), by whichever mount it was opened.
 */
int cgroup_open(const char *path, struct cgroup *ret_cgroup);
/* What to say after a path, for an error of cgroup_open(). Static, or as strerror(3). */
const char *cgroup_strerror(int r);
void cgroup_close(struct cgroup *cgroup);

/*
 * The one that a process is in; -ESRCH: it is gone; -ENOENT: it is in none that we can see; -EXDEV:
 * this process is in a cgroup namespace.
 */
int cgroup_open_of(pid_t pid, struct cgroup *ret_cgroup);

/* Is it ancestor, or below it? */
bool cgroup_is_within(const struct cgroup *cgroup, const struct cgroup *ancestor);

/* The path of a cgroup from its id; -ESTALE: it is gone. The caller frees *ret_path. */
int cgroup_path_by_id(uint64_t id, char **ret_path);

#endif
