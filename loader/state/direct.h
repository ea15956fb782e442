/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pinned programs that are attached without a link, as `tproxyctl run` attaches them. */
#ifndef TPROXY_STATE_DIRECT_H
#define TPROXY_STATE_DIRECT_H

struct cgroup;
struct hook;

/*
 * Returns the level of the nearest cgroup, @cgroup or one above it, to which the pinned program of
 * a hook is attached. Returns -1 if there is none or the kernel does not tell.
 */
int direct_level(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup);

/*
 * Returns the number of programs of other instances that run for the cgroup at this hook: of
 * `tproxyctl run` with rules of its own, or of a load with another pin directory.
 */
unsigned int direct_count_others(const char *pin_dir, const struct hook *hook,
				 const struct cgroup *cgroup);

#endif
