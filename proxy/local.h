/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Is an address on this host? */
#ifndef TPROXY_LOCAL_H
#define TPROXY_LOCAL_H

#include <stdbool.h>

#include "parse.h"

/*
 * Do packets to this address stay in our network namespace, and arrive? Not if it is gone, or has
 * moved to another host, or while lo is down. If this cannot be found out the answer is yes.
 */
bool local_is_reached(const union sockaddr_any *addr);

/*
 * A descriptor that is readable when addresses or devices of our network namespace have changed, to
 * be emptied with local_watched(). -errno: there is none, and one has to look from time to time.
 */
int local_watch(void);
void local_watched(int fd);

#endif
