// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl doctor: how full map_socks is and with whose connections, and which counters show that
 * something went wrong. If map_socks is full, a new connection is treated as if there were no
 * relay: it goes out directly, or is refused with --fail-closed. From NEARLY_FULL_PERCENT on, the
 * users and cgroups with the most connections are named. Counters of ordinary outcomes are not
 * reported.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor.h"
#include "host/names.h"
#include "state/conns.h"
#include "state/counters.h"
#include "tproxy_abi.h"
#include "util.h"

/* Share of the map from which on a finding names users and cgroups. */
#define NEARLY_FULL_PERCENT 75
/* How many users, and how many cgroups, are named. */
#define TOP 3
/* An insertion may fail a few entries before the map is full. */
#define FULL (TPROXY_CONNECTIONS_MAX - 16)

struct holder {
	uint64_t id;
	size_t n;
};

/*
 * The meaning of each counter that is a finding unless it is 0. Ordinary outcomes are not here:
 * redirected, what waited for the relay, and what bypasses it by its nature (bypass_...).
 */
static const struct {
	enum tproxy_stat stat;
	const char *means;
} meanings[] = {
	{ TPROXY_STAT_NO_RELAY, "found no relay of their network namespace and address family" },
	{ TPROXY_STAT_NO_LISTENER, "found no listener of the registered relay" },
	{ TPROXY_STAT_STALLED, "found a relay that was stopped or hung" },
	{ TPROXY_STAT_MAP_FULL, "found map_socks full" },
	{ TPROXY_STAT_OVER_SHARE,
	  "were of a user, cgroup or slice that had used up its share of map_socks" },
	{ TPROXY_STAT_NO_STORAGE, "got no memory for a record: see sysctl net.core.optmem_max" },
	{ TPROXY_STAT_BOUND_DEVICE,
	  "were bound to a device, through which no relay can be reached" },
	{ TPROXY_STAT_LINK_LOCAL,
	  "went to an IPv6 link-local address, to which no relay can connect" },
	{ TPROXY_STAT_UNSUPPORTED,
	  "had TCP_MD5SIG or TCP-AO keys, a source route or a source of another host" },
	{ TPROXY_STAT_REFUSED, "of those were refused (--fail-closed)" },
	{ TPROXY_STAT_NEGATIVE_CACHE,
	  "failed at once, from the negative cache: a connection to the same destination had just failed" },
	{ TPROXY_STAT_STRAYED,
	  "would have left this host, because the relay's address is not on it" },
	{ TPROXY_STAT_ABORTED,
	  "were stopped before their SYN, because the relay had ended or moved" },
	{ TPROXY_STAT_UNANSWERED,
	  "got no answer from a relay that listened, and timed out: see the findings of policy and waiting" },
	{ TPROXY_STAT_PUBLISH_FAILED, "could not be published to the relay, and failed" },
	{ TPROXY_STAT_OBSERVE_FULL, "were not observed, because map_observed was full" },
	{ TPROXY_STAT_EVENTS_LOST,
	  "were observed and not reported: map_events was full, because no relay with --connection-log read it" },
	{ TPROXY_STAT_HONEST_MPTCP,
	  "were of MPTCP: connect() succeeded before the destination was reached" },
	{ TPROXY_STAT_HONEST_NO_SLOT,
	  "found no free slot in map_pending: connect() succeeded before the destination was reached" },
	{ TPROXY_STAT_HONEST_DATA,
	  "sent data in the SYN: connect() succeeded before the destination was reached" },
	{ TPROXY_STAT_HONEST_TTL,
	  "sent SYNs that a relay cannot leave without an answer: connect() succeeded before the destination was reached" },
	{ TPROXY_STAT_HONEST_RING_FULL,
	  "SYNs found the ring of their relay full, and were sent again: the relay is too slow" },
	{ TPROXY_STAT_HONEST_STRANGER,
	  "SYNs to a relay's port were refused, because nobody had redirected them" },
	{ TPROXY_STAT_STALE,
	  "stale entries had no socket and were removed: a foreign program on tproxy's hooks, or a detached link" },
};

static int by_id(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int by_number(const void *a, const void *b)
{
	const struct holder *x = a, *y = b;

	return (x->n < y->n) - (x->n > y->n);
}

/* Sorts @ids. Returns the number of entries in @top, the largest first. */
static size_t find_top(uint64_t *ids, size_t n, struct holder top[TOP + 1])
{
	size_t n_top = 0, i, j;

	qsort(ids, n, sizeof(*ids), by_id);
	for (i = 0; i < n; i = j) {
		for (j = i; j < n && ids[j] == ids[i]; j++)
			;
		top[n_top] = (struct holder){ .id = ids[i], .n = j - i };
		qsort(top, n_top + 1, sizeof(*top), by_number);
		if (n_top < TOP)
			n_top++;
	}
	return n_top;
}

/* Writes "12000 of root, 3 of 1000". */
static void format_top(uint64_t *ids, size_t n, char *(*name)(uint64_t), char *buf, size_t size)
{
	struct holder top[TOP + 1] = {};
	size_t n_top = find_top(ids, n, top), i, len = 0;

	*buf = '\0';
	for (i = 0; i < n_top && len < size; i++) {
		_cleanup_free_ char *text = name(top[i].id);

		len += (size_t)snprintf(buf + len, size - len, "%s%zu of %s", i ? ", " : "",
					top[i].n, text ? text : "?");
	}
}

static void report_holders(struct doctor *d, const struct conns_entry *entries, size_t n)
{
	_cleanup_free_ uint64_t *ids = calloc(n, sizeof(*ids));
	char users[512], cgroups[2048];
	const bool full = n >= FULL;
	size_t i;

	if (!ids)
		return;
	for (i = 0; i < n; i++)
		ids[i] = entries[i].conn.uid;
	format_top(ids, n, names_user, users, sizeof(users));
	for (i = 0; i < n; i++)
		ids[i] = entries[i].conn.cgroup_id;
	format_top(ids, n, names_cgroup, cgroups, sizeof(cgroups));
	doctor_add(d, full ? DOCTOR_ERROR : DOCTOR_WARNING, "usage",
		   "map_socks holds %zu of %d connections%s: by user %s; by cgroup %s", n,
		   TPROXY_CONNECTIONS_MAX,
		   !full	    ? ""
		   : d->fail_closed ? ", new ones are refused"
				    : ", new ones go directly",
		   users, cgroups);
	doctor_fix(
		d,
		"see 'tproxyctl connections'; limit what these may open, or leave it out of the scope");
}

static void check_counters(struct doctor *d)
{
	uint64_t counts[_TPROXY_STAT_MAX];
	size_t i;

	if (counters_read(d->pin_dir, counts) < 0)
		return;
	for (i = 0; i < ARRAY_SIZE(meanings); i++) {
		if (counts[meanings[i].stat] > 0)
			doctor_add(d, DOCTOR_INFO, "counters", "%s: %" PRIu64 " %s",
				   counters_name(meanings[i].stat), counts[meanings[i].stat],
				   meanings[i].means);
	}
}

void doctor_usage(struct doctor *d)
{
	_cleanup_free_ struct conns_entry *entries = NULL;
	size_t n = 0;

	/* Faults of the pins were reported before. */
	if (!d->loaded || !d->privileged || conns_read(d->pin_dir, &entries, &n) < 0)
		return;
	if (n >= (size_t)TPROXY_CONNECTIONS_MAX * NEARLY_FULL_PERCENT / 100)
		report_holders(d, entries, n);
	else
		doctor_add(d, DOCTOR_OK, "usage", "map_socks holds %zu of %d connections", n,
			   TPROXY_CONNECTIONS_MAX);
	check_counters(d);
}
