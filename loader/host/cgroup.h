/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Control groups, version 2: mount point, ids and paths. Errors are returned, not logged. */
#ifndef TPROXY_HOST_CGROUP_H
#define TPROXY_HOST_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup {
	char *path; /* canonical, owned; begins at cgroup_root() */
	int fd;
	uint64_t id;	/* as bpf_get_current_cgroup_id() returns it */
	uint32_t level; /* depth below the root of the hierarchy, which is 0 */
};

#define CGROUP_NULL                                                                                \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/*
 * Finds the mount point of cgroup2 in /proc/self/mountinfo: /sys/fs/cgroup, or on hybrid hosts
 * /sys/fs/cgroup/unified. Of several mounts it takes one that shows the whole hierarchy. If there
 * is none, it takes the first one, through which cgroup_open() opens nothing. Returns 0, -ENOENT if
 * cgroup2 is not mounted, or another -errno. The caller frees *ret_path.
 */
int cgroup_root(char **ret_path);

/*
 * Opens a cgroup; the caller calls cgroup_close(). ret_cgroup->path begins at cgroup_root(),
 * whichever mount it was opened through. Returns 0, an error of open(2) such as -ENOENT or
 * -ENOTDIR, or -EMEDIUMTYPE if the directory is not of cgroup2. Returns -EXDEV if its level is
 * unknown, because the mount shows only a part of the hierarchy, as in a container.
 */
int cgroup_open(const char *path, struct cgroup *ret_cgroup);
/*
 * Returns the text that follows a path in an error message of cgroup_open(). Static, or as
 * strerror(3).
 */
const char *cgroup_strerror(int r);
void cgroup_close(struct cgroup *cgroup);

/*
 * Opens the cgroup of a process. @pid is the number in the PID namespace of /proc, which need not
 * be that of getpid(); 0 is this process. Returns 0, -ESRCH if there is no such process, or -ENOENT
 * if its cgroup is not visible to us. Returns -ENODEV if cgroup2 is not mounted, -EXDEV if this
 * process is in a cgroup namespace, or an error of cgroup_open().
 */
int cgroup_open_of(pid_t pid, struct cgroup *ret_cgroup);

/* Returns true if @cgroup is @ancestor or below it. Compares the paths; neither has to be open. */
bool cgroup_is_within(const struct cgroup *cgroup, const struct cgroup *ancestor);

/*
 * Finds the path of a cgroup by its id, with open_by_handle_at(2), which takes CAP_DAC_READ_SEARCH.
 * Returns 0, -ESTALE if the cgroup was removed, -EXDEV if the mount does not show it, or another
 * -errno. The caller frees *ret_path.
 */
int cgroup_path_by_id(uint64_t id, char **ret_path);

#endif
