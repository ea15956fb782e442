/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The process whose connect() tproxyctl explains. */
#ifndef TPROXY_CTL_CALLER_H
#define TPROXY_CTL_CALLER_H

#include <stdint.h>
#include <sys/types.h>

#include "host/cgroup.h"
#include "tproxy_abi.h"

struct ctl_options;

struct caller {
	pid_t pid; /* 0: no process, the facts were given */
	uid_t uid; /* the real ids */
	gid_t gid;
	char command[TPROXY_COMM_LEN]; /* padded with NULs */
	struct cgroup cgroup;
	uint64_t *cgroup_ids; /* by level, from the root to the cgroup itself */
	uint64_t netns_cookie;
};

#define CALLER_NULL                                                                                \
	{                                                                                          \
		.cgroup = CGROUP_NULL                                                              \
	}

/*
 * Reads the process that --pid names, and enters its network namespace. Otherwise takes the facts
 * that the options give, and this process's own for the others. Returns 0 or -errno, logged. The
 * caller calls caller_finish(), after a failure too.
 */
int caller_read(const struct ctl_options *options, struct caller *caller);
void caller_finish(struct caller *caller);

#endif
