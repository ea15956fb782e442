/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What /proc says about a client's process. */
#ifndef TPROXY_PROCESS_H
#define TPROXY_PROCESS_H

#include <stdint.h>

#define PROCESS_CGROUP_LEN 1024

/*
 * Finds the path of the cgroup with this id, below the mount of cgroup2, from a process that was in
 * it. pid is of the initial PID namespace. Returns buf, or NULL: the process has ended, has moved,
 * or is hidden (ProtectProc=, PID namespace), or the path is too long.
 */
const char *process_cgroup(uint32_t pid, uint64_t cgroup_id, char buf[PROCESS_CGROUP_LEN]);

#endif
