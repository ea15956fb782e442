/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The process that listens where a connection was accepted. The kernel half knows only the cgroup
 * and the user of the listening socket, so the processes of that cgroup are searched.
 */
#ifndef TPROXY_CTL_WATCH_OWNER_H
#define TPROXY_CTL_WATCH_OWNER_H

#include "conn_row.h"

struct watch_owners;

/* Returns NULL without memory. */
struct watch_owners *watch_owners_new(void);
void watch_owners_free(struct watch_owners *owners);

/*
 * Sets pid and comm of an accepted connection. They stay 0 and "" if no process of the cgroup
 * listens at the port. A result is remembered for some seconds.
 */
void watch_owners_set(struct watch_owners *owners, struct conn_row *row);

#endif
