/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The commands of tproxyctl. argv[0] is the command's own name. Each returns the exit status: 0, 1
 * after a failure, which was logged or printed, or 2 after a usage error, which was logged.
 */
#ifndef TPROXY_CTL_COMMANDS_H
#define TPROXY_CTL_COMMANDS_H

#include "tproxy_abi.h"

int ctl_status(int argc, char **argv);
int ctl_connections(int argc, char **argv);
int ctl_doctor(int argc, char **argv);
int ctl_register(int argc, char **argv);
int ctl_explain(int argc, char **argv);
int ctl_rules(int argc, char **argv);
int ctl_capture(int argc, char **argv);
int ctl_run(int argc, char **argv);
int ctl_top(int argc, char **argv);
int ctl_watch(int argc, char **argv);
int ctl_block(int argc, char **argv);
int ctl_unblock(int argc, char **argv);
int ctl_allow(int argc, char **argv);
int ctl_upstreams(int argc, char **argv);

/* The exit status of watch if --exit-over was reached. */
#define CTL_WATCH_OVER 3

/* Groups of counters by what became of the connections, as `status` sums them up. */
enum ctl_group {
	CTL_GROUP_NONE, /* not assigned; a unit test checks that no counter has it */
	CTL_GROUP_REDIRECTED,
	CTL_GROUP_BYPASSED,
	CTL_GROUP_NOT_REDIRECTED,
	CTL_GROUP_REFUSED, /* a part of those not redirected */
	/*
	 * Failed at once with an error from map_failed: a relay had just failed to reach the
	 * destination.
	 */
	CTL_GROUP_FAILED,
	CTL_GROUP_RULES,
	CTL_GROUP_BLOCKED,
	CTL_GROUP_DATAGRAMS,  /* of UDP, not connections */
	CTL_GROUP_UNREPORTED, /* a part of the bypassed */
	CTL_GROUP_RESET,      /* a part of the redirected; also failed before the SYN */
	CTL_GROUP_HONEST,     /* a part of the redirected: connect() waited for the relay */
	CTL_GROUP_ACCEPTED,   /* a part of the redirected: it should have waited, and did not */
	CTL_GROUP_SYNS,	      /* SYNs of honest connect, not connections */
	CTL_GROUP_STALE,      /* entries without a socket, not connections; in no sum */
	_CTL_GROUP_MAX,
};

/* Returns the group of a counter. Exported for the unit test. */
enum ctl_group ctl_group_of(enum tproxy_stat stat);

#endif
