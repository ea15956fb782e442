/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How an observed connection has ended, for the logs of tproxy-relay and of tproxyctl run. */
#ifndef TPROXY_OBSERVED_END_H
#define TPROXY_OBSERVED_END_H

#include <stdbool.h>

struct tproxy_event;

struct observed_end {
	const char *reason; /* static; the relay's close_reason_name() has the same words */
	int error;	    /* errno that explains the reason, or 0 */
	bool measured;	    /* the event has bytes, round trip time and retransmits */
};

struct observed_end observed_end(const struct tproxy_event *event);

#endif
