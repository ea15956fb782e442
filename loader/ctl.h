/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The commands of tproxyctl. Each gets the command line from its own name on, and returns the exit
 * status: 0, 1 (failed; what is wrong has been logged or printed) or 2 (usage error, logged).
 */
#ifndef TPROXY_LOADER_CTL_H
#define TPROXY_LOADER_CTL_H

#include "tproxy_abi.h"

int ctl_status(int argc, char **argv);
int ctl_connections(int argc, char **argv);
int ctl_doctor(int argc, char **argv);
int ctl_register(int argc, char **argv);

/* What became of the connections that a counter counts, as `status` sums them up. */
enum ctl_group {
	CTL_GROUP_NONE, /* nobody has said; a test looks that no counter is */
	CTL_GROUP_REDIRECTED,
	CTL_GROUP_BYPASSED,
	CTL_GROUP_NOT_REDIRECTED,
	CTL_GROUP_REFUSED, /* of those that were not redirected */
	CTL_GROUP_FAILED, /* at once, because a relay could not reach the destination just before */
	CTL_GROUP_RESET,  /* of those that were redirected; or they failed before their SYN */
	CTL_GROUP_STALE,  /* no connections: entries that nothing ended; not one of the sums */
	_CTL_GROUP_MAX,
};

enum ctl_group ctl_group_of(enum tproxy_stat stat);

#endif
