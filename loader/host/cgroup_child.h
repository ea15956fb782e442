/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A cgroup for one command. It has no controllers, so it may be made below a cgroup that has
 * processes. Functions return 0 or -errno, not logged.
 */
#ifndef TPROXY_HOST_CGROUP_CHILD_H
#define TPROXY_HOST_CGROUP_CHILD_H

#include <stdbool.h>
#include <stddef.h>

struct cgroup;

/* Makes a cgroup below @parent, named @name or, if that exists, @name with a number. */
int cgroup_child_make(const struct cgroup *parent, const char *name, struct cgroup *ret_child);

/* Moves this process into a cgroup. */
int cgroup_child_enter(const struct cgroup *cgroup);

/*
 * cgroup_child_watch() opens cgroup.events of a cgroup: poll(2) reports POLLPRI on it when the last
 * process leaves. cgroup_child_is_populated() reads that file. It returns 1 if a process is in the
 * cgroup or below it, otherwise 0, also for a removed cgroup.
 */
int cgroup_child_watch(const struct cgroup *cgroup, int *ret_fd);
int cgroup_child_is_populated(int events_fd);

/* Removes a cgroup without processes and the cgroups below it. Returns 0 if it does not exist. */
int cgroup_child_remove(const char *path);

/*
 * Writes the processes in a cgroup, "PID NAME, PID NAME", and "..." for those that do not fit.
 * Returns the number of processes, including those in cgroups below.
 */
#define CGROUP_CHILD_LIST_LEN 512
size_t cgroup_child_list(const char *path, char text[CGROUP_CHILD_LIST_LEN]);

#endif
