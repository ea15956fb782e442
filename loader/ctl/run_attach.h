/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Brings the cgroup of a command into the scope of what tproxy-load has loaded. */
#ifndef TPROXY_CTL_RUN_ATTACH_H
#define TPROXY_CTL_RUN_ATTACH_H

struct cgroup;

/*
 * Attaches the pinned programs to a cgroup. They are detached when the cgroup is removed. Returns 0
 * or -errno, logged.
 */
int run_attach_pinned(const char *pin_dir, const struct cgroup *cgroup);

#endif
