// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See stats.h. */
#include "stats.h"

#include <inttypes.h>

#include "log.h"
#include "parse.h"
#include "sink.h"
#include "util.h"

static const char *const close_reason_names[] = {
	[CLOSE_DONE] = "closed",
	[CLOSE_RESET_BY_CLIENT] = "reset by client",
	[CLOSE_RESET_BY_SERVER] = "reset by server",
	[CLOSE_NO_DESTINATION] = "no recorded destination",
	[CLOSE_CONNECT_FAILED] = "destination failed",
	[CLOSE_CONNECT_TIMEOUT] = "connect timeout",
	[CLOSE_IDLE_TIMEOUT] = "idle timeout",
	[CLOSE_HALF_CLOSED_TIMEOUT] = "half-closed timeout",
	[CLOSE_DRAIN_TIMEOUT] = "drain timeout",
	[CLOSE_NO_MEMORY] = "out of memory",
	[CLOSE_CGROUP_LIMIT] = "cgroup limit",
	[CLOSE_UNKNOWN_UPSTREAM] = "unknown upstream",
	[CLOSE_REFUSED_BY_NAME] = "refused by name",
	[CLOSE_CANCELLED] = "cancelled by client",
};
_Static_assert(ARRAY_SIZE(close_reason_names) == _CLOSE_REASON_MAX, "a reason without a name");

const char *close_reason_name(enum close_reason reason)
{
	return close_reason_names[reason];
}

static const char *const honest_count_names[] = {
	[HONEST_BEGUN] = "begun",
	[HONEST_JOINED] = "joined",
	[HONEST_REFUSED] = "refused",
	[HONEST_TIMED_OUT] = "timed out",
	[HONEST_CANCELLED] = "cancelled by client",
	[HONEST_ACCEPTED_NAME] = "accepted first, for its name",
	[HONEST_ACCEPTED_JOIN] = "accepted first, not joined",
};
_Static_assert(ARRAY_SIZE(honest_count_names) == _HONEST_MAX, "a count without a name");

const char *honest_count_name(enum honest_count count)
{
	return honest_count_names[count];
}

void stats_sum(struct stats *to, const struct stats *from)
{
	size_t i;

	stats_add(&to->accepted, stats_get(&from->accepted));
	stats_add(&to->bytes_up, stats_get(&from->bytes_up));
	stats_add(&to->bytes_down, stats_get(&from->bytes_down));
	stats_add(&to->accept_paused, stats_get(&from->accept_paused));
	stats_add(&to->spliced, stats_get(&from->spliced));
	stats_add(&to->sessions, stats_get(&from->sessions));
	for (i = 0; i < _CLOSE_REASON_MAX; i++)
		stats_add(&to->closed[i], stats_get(&from->closed[i]));
	for (i = 0; i < _HONEST_MAX; i++)
		stats_add(&to->honest[i], stats_get(&from->honest[i]));
	for (i = 0; i < _HISTOGRAM_MAX; i++)
		histogram_sum(&to->times[i], &from->times[i]);
}

void stats_log(const struct stats *stats, uint64_t sessions)
{
	char up[FORMAT_BYTES_LEN], down[FORMAT_BYTES_LEN], spliced[FORMAT_BYTES_LEN];
	size_t i;

	log_info("connections: %" PRIu64 " now, %" PRIu64 " accepted; up %s, down %s, spliced %s",
		 sessions, stats_get(&stats->accepted),
		 format_bytes(stats_get(&stats->bytes_up), up),
		 format_bytes(stats_get(&stats->bytes_down), down),
		 format_bytes(stats_get(&stats->spliced), spliced));
	for (i = 0; i < _CLOSE_REASON_MAX; i++) {
		if (stats_get(&stats->closed[i]))
			log_info("connections ended, %s: %" PRIu64, close_reason_names[i],
				 stats_get(&stats->closed[i]));
	}
	for (i = 0; i < _HONEST_MAX; i++) {
		if (stats_get(&stats->honest[i]))
			log_info("honest connects, %s: %" PRIu64, honest_count_names[i],
				 stats_get(&stats->honest[i]));
	}
	if (stats_get(&stats->accept_paused))
		log_info("accepting paused: %" PRIu64 " times", stats_get(&stats->accept_paused));
	if (sink_dropped())
		log_info("lines of the log that were dropped: %" PRIu64, sink_dropped());
}
