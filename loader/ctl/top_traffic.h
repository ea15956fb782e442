/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The samples of `tproxyctl top --by traffic`: what the kernel half has counted for each cgroup.
 *
 * Counting costs each packet, so it may be off. It is then on for as long as top shows traffic, and
 * a process of its own ends it, even if top is killed.
 */
#ifndef TPROXY_CTL_TOP_TRAFFIC_H
#define TPROXY_CTL_TOP_TRAFFIC_H

#include <sys/types.h>

#include "host/name_cache.h"

struct ctl_options;
struct top;

struct top_traffic {
	struct name_cache ancestors; /* ids of the lines above a cgroup, as text */
	int guard_fd;		     /* its end of file makes the process end the counting */
	pid_t guard;		     /* 0: none */
};

void top_traffic_init(struct top_traffic *traffic);
void top_traffic_finish(struct top_traffic *traffic);

/* Takes a sample, see top_state.h. */
int top_traffic_sample(struct top *top, struct top_traffic *traffic,
		       const struct ctl_options *options);

#endif
