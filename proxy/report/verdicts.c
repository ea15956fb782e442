// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See verdicts.h. Connections that the fail policy has let through are a difference of counters
 * that are read one after the other. TPROXY_STAT_REFUSED is read last (kernel/counters.c), so the
 * difference may be too small, never too large. A sum keeps its highest value: for Prometheus a
 * counter that decreases has been reset.
 */
#include "verdicts.h"

#include "util.h"

static const unsigned char verdict_of_stat[] = {
	[TPROXY_STAT_REDIRECTED] = CONN_REDIRECTED,
	[TPROXY_STAT_BYPASS_RELAY] = CONN_DIRECT,
	[TPROXY_STAT_BYPASS_LOOPBACK] = CONN_DIRECT,
	[TPROXY_STAT_BYPASS_MULTICAST] = CONN_DIRECT,
	[TPROXY_STAT_BYPASS_LISTENER] = CONN_DIRECT,
	[TPROXY_STAT_NO_RELAY] = VERDICT_BY_POLICY,
	[TPROXY_STAT_NO_LISTENER] = VERDICT_BY_POLICY,
	[TPROXY_STAT_STALLED] = VERDICT_BY_POLICY,
	[TPROXY_STAT_MAP_FULL] = VERDICT_BY_POLICY,
	[TPROXY_STAT_BOUND_DEVICE] = VERDICT_BY_POLICY,
	[TPROXY_STAT_LINK_LOCAL] = VERDICT_BY_POLICY,
	[TPROXY_STAT_REFUSED] = VERDICT_NONE, /* its reason is counted too */
	[TPROXY_STAT_NEGATIVE_CACHE] = CONN_REFUSED,
	[TPROXY_STAT_PUBLISH_FAILED] = VERDICT_NONE,
	[TPROXY_STAT_NO_STORAGE] = VERDICT_BY_POLICY,
	[TPROXY_STAT_OVER_SHARE] = VERDICT_BY_POLICY,
	[TPROXY_STAT_STRAYED] = VERDICT_BY_POLICY,
	[TPROXY_STAT_UNSUPPORTED] = VERDICT_BY_POLICY,
	[TPROXY_STAT_BYPASS_REPAIR] = CONN_DIRECT,
	[TPROXY_STAT_BYPASS_PORT0] = CONN_DIRECT,
	[TPROXY_STAT_ABORTED] = VERDICT_NONE,
	[TPROXY_STAT_STALE] = VERDICT_NONE,
	[TPROXY_STAT_UNANSWERED] = VERDICT_NONE,
	[TPROXY_STAT_RULE_DIRECT] = CONN_DIRECT,
	[TPROXY_STAT_RULE_OBSERVE] = CONN_OBSERVED,
	[TPROXY_STAT_RULE_REFUSED] = CONN_REFUSED,
	[TPROXY_STAT_RULE_UDP] = VERDICT_NONE,
	[TPROXY_STAT_OBSERVE_FULL] = VERDICT_NONE, /* RULE_OBSERVE counts it too */
	[TPROXY_STAT_EVENTS_LOST] = VERDICT_NONE,
	[TPROXY_STAT_BLOCKED] = CONN_REFUSED,
	[TPROXY_STAT_HONEST_PENDING] = VERDICT_NONE, /* REDIRECTED counts it too */
	[TPROXY_STAT_HONEST_MPTCP] = VERDICT_NONE,
	[TPROXY_STAT_HONEST_NO_SLOT] = VERDICT_NONE,
	[TPROXY_STAT_HONEST_DATA] = VERDICT_NONE,
	[TPROXY_STAT_HONEST_TTL] = VERDICT_NONE,
	[TPROXY_STAT_HONEST_RING_FULL] = VERDICT_NONE,
	[TPROXY_STAT_HONEST_STRANGER] = VERDICT_NONE,
};
_Static_assert(ARRAY_SIZE(verdict_of_stat) == _TPROXY_STAT_MAX, "a counter without a verdict");

unsigned int verdict_of(unsigned int stat)
{
	return stat < ARRAY_SIZE(verdict_of_stat) ? verdict_of_stat[stat] : VERDICT_NONE;
}

void verdicts_update(struct verdicts *v, uint64_t loaded_ns, const uint64_t stats[_TPROXY_STAT_MAX])
{
	uint64_t sums[VERDICT_NONE + 1] = {}, refused = stats[TPROXY_STAT_REFUSED];
	unsigned int i;

	for (i = 0; i < _TPROXY_STAT_MAX; i++)
		sums[verdict_of_stat[i]] += stats[i];
	if (sums[VERDICT_BY_POLICY] > refused)
		sums[CONN_DIRECT] += sums[VERDICT_BY_POLICY] - refused;
	sums[CONN_REFUSED] += refused;
	if (v->loaded_ns != loaded_ns)
		*v = (struct verdicts){ .loaded_ns = loaded_ns };
	for (i = 0; i < _CONN_VERDICT_MAX; i++) {
		if (sums[i] > v->sums[i])
			v->sums[i] = sums[i];
	}
}
