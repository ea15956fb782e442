/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pinned programs that are attached without a link, as `tproxyctl run` attaches them. */
#ifndef TPROXY_STATE_DIRECT_H
#define TPROXY_STATE_DIRECT_H

#include <linux/types.h>

struct cgroup;
struct cgroup_programs;
struct hook;

/*
 * Returns the level of the nearest cgroup, @cgroup or one above it, to which the pinned program of
 * a hook is attached. Returns -1 if there is none or the kernel does not tell.
 */
int direct_level(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup);

/* The same for the program with this id. */
int direct_level_of(__u32 id, const struct hook *hook, const struct cgroup *cgroup);

/*
 * Lists the programs of other instances that run for the cgroup at this hook: of `tproxyctl run`
 * with rules of its own, or of a load with another pin directory. They are in the order in which
 * the kernel runs them. Without CAP_SYS_ADMIN the list is empty.
 */
void direct_others(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup,
		   struct cgroup_programs *ret_others);

#endif
