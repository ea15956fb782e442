/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A scope of the user's systemd, for a user who may not make a cgroup where the command starts. */
#ifndef TPROXY_CTL_RUN_UNIT_H
#define TPROXY_CTL_RUN_UNIT_H

struct cgroup;

/*
 * Lets the systemd of this user move this process into a new scope of that name. Returns 0 and the
 * cgroup of the scope, or -errno, logged.
 */
int run_unit_enter(const char *name, struct cgroup *ret_cgroup);

#endif
