// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See stat_name.h. A new counter of the kernel half gets its name here. */
#include "stat_name.h"

#include <stddef.h>

#include "tproxy_abi.h"
#include "util.h"

static const char *const stat_names[] = {
	[TPROXY_STAT_REDIRECTED] = "redirected",
	[TPROXY_STAT_BYPASS_RELAY] = "bypass_relay",
	[TPROXY_STAT_BYPASS_LOOPBACK] = "bypass_loopback",
	[TPROXY_STAT_BYPASS_MULTICAST] = "bypass_multicast",
	[TPROXY_STAT_BYPASS_LISTENER] = "bypass_listener",
	[TPROXY_STAT_NO_RELAY] = "no_relay",
	[TPROXY_STAT_NO_LISTENER] = "no_listener",
	[TPROXY_STAT_STALLED] = "stalled",
	[TPROXY_STAT_MAP_FULL] = "map_full",
	[TPROXY_STAT_BOUND_DEVICE] = "bound_device",
	[TPROXY_STAT_LINK_LOCAL] = "link_local",
	[TPROXY_STAT_REFUSED] = "refused",
	[TPROXY_STAT_NEGATIVE_CACHE] = "negative_cache",
	[TPROXY_STAT_PUBLISH_FAILED] = "publish_failed",
	[TPROXY_STAT_NO_STORAGE] = "no_storage",
	[TPROXY_STAT_OVER_SHARE] = "over_share",
	[TPROXY_STAT_STRAYED] = "strayed",
	[TPROXY_STAT_UNSUPPORTED] = "unsupported",
	[TPROXY_STAT_BYPASS_REPAIR] = "bypass_repair",
	[TPROXY_STAT_BYPASS_PORT0] = "bypass_port0",
	[TPROXY_STAT_ABORTED] = "aborted",
	[TPROXY_STAT_STALE] = "stale",
	[TPROXY_STAT_UNANSWERED] = "unanswered",
	[TPROXY_STAT_RULE_DIRECT] = "rule_direct",
	[TPROXY_STAT_RULE_OBSERVE] = "rule_observe",
	[TPROXY_STAT_RULE_REFUSED] = "rule_refused",
	[TPROXY_STAT_RULE_UDP] = "rule_udp",
	[TPROXY_STAT_OBSERVE_FULL] = "observe_full",
	[TPROXY_STAT_EVENTS_LOST] = "events_lost",
	[TPROXY_STAT_BLOCKED] = "blocked",
	[TPROXY_STAT_HONEST_PENDING] = "honest_pending",
	[TPROXY_STAT_HONEST_MPTCP] = "honest_mptcp",
	[TPROXY_STAT_HONEST_NO_SLOT] = "honest_no_slot",
	[TPROXY_STAT_HONEST_DATA] = "honest_data",
	[TPROXY_STAT_HONEST_TTL] = "honest_ttl",
	[TPROXY_STAT_HONEST_RING_FULL] = "honest_ring_full",
	[TPROXY_STAT_HONEST_STRANGER] = "honest_stranger",
};
_Static_assert(ARRAY_SIZE(stat_names) == _TPROXY_STAT_MAX, "a counter without a name");

const char *stat_name(unsigned int stat)
{
	return stat < ARRAY_SIZE(stat_names) ? stat_names[stat] : NULL;
}
