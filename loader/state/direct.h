/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pinned programs that are attached without a link, as `tproxyctl run` attaches them. */
#ifndef TPROXY_STATE_DIRECT_H
#define TPROXY_STATE_DIRECT_H

struct cgroup;
struct hook;

/*
 * Returns the level of the cgroup, @cgroup or the nearest one above it, to which the pinned program
 * of a hook is attached, or -1 if there is none or it cannot be found out.
 */
int direct_level(const char *pin_dir, const struct hook *hook, const struct cgroup *cgroup);

#endif
