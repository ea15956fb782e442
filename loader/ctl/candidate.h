/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A proxy that is to be registered: its listening sockets, and whether connections may be
 * redirected to them.
 */
#ifndef TPROXY_CTL_CANDIDATE_H
#define TPROXY_CTL_CANDIDATE_H

#include <stdint.h>

#include "host/listeners.h"
#include "tproxy_abi.h"

struct ctl_options;

struct candidate {
	const struct ctl_options *options; /* PID, ports and pin directory; set by the caller */
	uint64_t relay_cgroup_id;	   /* from the policy, 0: none; set by the caller */
	struct listeners listeners;	   /* all in one network namespace; at least one */
	struct tproxy_listen listen[_TPROXY_FAMILY_MAX]; /* where these listen */
};

/*
 * Duplicates the listening sockets of the process or of its descendants, and checks their
 * addresses, their network namespace and the cgroups of the processes that hold them. Returns 0 or
 * -errno, logged. The caller calls candidate_finish(), after a failure too.
 */
int candidate_open(struct candidate *candidate);
void candidate_finish(struct candidate *candidate);

#endif
