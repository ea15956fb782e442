// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl status: the state that tproxy-load --status prints, with the counters summed up by what
 * became of the connections.
 */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "host/json.h"
#include "options.h"
#include "state/counters.h"
#include "state/status.h"
#include "util.h"

static const struct ctl_usage usage = {
	.command = CTL_STATUS,
	.synopsis = "[--json] [-p DIR]",
	.about = "Prints what is loaded and attached, the registered relays, and what became of\n"
		 "connections. Exit status 1 if nothing is loaded.\n",
};

static const enum ctl_group groups[_TPROXY_STAT_MAX] = {
	[TPROXY_STAT_REDIRECTED] = CTL_GROUP_REDIRECTED,
	[TPROXY_STAT_BYPASS_RELAY] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_BYPASS_LOOPBACK] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_BYPASS_MULTICAST] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_BYPASS_LISTENER] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_NO_RELAY] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_NO_LISTENER] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_STALLED] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_MAP_FULL] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_BOUND_DEVICE] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_LINK_LOCAL] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_REFUSED] = CTL_GROUP_REFUSED,
	[TPROXY_STAT_NEGATIVE_CACHE] = CTL_GROUP_FAILED,
	[TPROXY_STAT_PUBLISH_FAILED] = CTL_GROUP_RESET,
	[TPROXY_STAT_NO_STORAGE] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_OVER_SHARE] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_STRAYED] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_UNSUPPORTED] = CTL_GROUP_NOT_REDIRECTED,
	[TPROXY_STAT_BYPASS_REPAIR] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_BYPASS_PORT0] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_ABORTED] = CTL_GROUP_RESET,
	[TPROXY_STAT_UNANSWERED] = CTL_GROUP_RESET,
	[TPROXY_STAT_STALE] = CTL_GROUP_STALE,
	[TPROXY_STAT_RULE_DIRECT] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_RULE_OBSERVE] = CTL_GROUP_BYPASSED,
	[TPROXY_STAT_RULE_REFUSED] = CTL_GROUP_RULES,
	[TPROXY_STAT_RULE_UDP] = CTL_GROUP_DATAGRAMS,
	[TPROXY_STAT_OBSERVE_FULL] = CTL_GROUP_UNREPORTED,
	[TPROXY_STAT_EVENTS_LOST] = CTL_GROUP_UNREPORTED,
	[TPROXY_STAT_BLOCKED] = CTL_GROUP_BLOCKED,
	[TPROXY_STAT_HONEST_PENDING] = CTL_GROUP_HONEST,
	[TPROXY_STAT_HONEST_MPTCP] = CTL_GROUP_ACCEPTED,
	[TPROXY_STAT_HONEST_NO_SLOT] = CTL_GROUP_ACCEPTED,
	[TPROXY_STAT_HONEST_DATA] = CTL_GROUP_ACCEPTED,
	[TPROXY_STAT_HONEST_TTL] = CTL_GROUP_ACCEPTED,
	[TPROXY_STAT_HONEST_RING_FULL] = CTL_GROUP_SYNS,
	[TPROXY_STAT_HONEST_STRANGER] = CTL_GROUP_SYNS,
};

/* Names of the groups in JSON, and their headings in text. */
static const struct {
	const char *name, *heading;
} group_names[_CTL_GROUP_MAX] = {
	[CTL_GROUP_REDIRECTED] = { "redirected", "redirected to a relay" },
	[CTL_GROUP_RESET] = { "reset", "  of these failed or reset" },
	[CTL_GROUP_HONEST] = { "honest", "  of these waited for the relay" },
	[CTL_GROUP_ACCEPTED] = { "accepted_first", "  of these accepted first instead" },
	[CTL_GROUP_BYPASSED] = { "bypassed", "bypassed, direct" },
	[CTL_GROUP_NOT_REDIRECTED] = { "not_redirected", "could not be redirected" },
	[CTL_GROUP_REFUSED] = { "refused", "  of these refused" },
	[CTL_GROUP_FAILED] = { "failed", "failed at once (negative cache)" },
	[CTL_GROUP_RULES] = { "rules", "refused by a rule" },
	[CTL_GROUP_BLOCKED] = { "blocked", "refused by the block list" },
	[CTL_GROUP_DATAGRAMS] = { "datagrams", "UDP datagrams refused by a rule" },
	[CTL_GROUP_UNREPORTED] = { "not_reported", "observed, but not reported" },
	[CTL_GROUP_SYNS] = { "syns", "SYNs of honest connect, unanswered" },
};

/* The order in text: a part follows its whole. */
static const enum ctl_group order[] = {
	CTL_GROUP_REDIRECTED, CTL_GROUP_RESET,		CTL_GROUP_HONEST,    CTL_GROUP_ACCEPTED,
	CTL_GROUP_BYPASSED,   CTL_GROUP_NOT_REDIRECTED, CTL_GROUP_REFUSED,   CTL_GROUP_FAILED,
	CTL_GROUP_RULES,      CTL_GROUP_BLOCKED,	CTL_GROUP_DATAGRAMS, CTL_GROUP_UNREPORTED,
	CTL_GROUP_SYNS,
};

enum ctl_group ctl_group_of(enum tproxy_stat stat)
{
	return (unsigned int)stat < _TPROXY_STAT_MAX ? groups[stat] : CTL_GROUP_NONE;
}

/* Adds "sums", with one number for each group. */
static void add_sums(struct json_object *root)
{
	struct json_object *counters = json_object_object_get(root, "counters");
	struct json_object *sums = json_object_new_object();
	uint64_t sum[_CTL_GROUP_MAX] = {};
	unsigned int i;

	for (i = 0; i < _TPROXY_STAT_MAX; i++)
		sum[groups[i]] += json_get_number(counters, counters_name(i));
	for (i = 0; i < ARRAY_SIZE(order); i++)
		json_add_number(sums, group_names[order[i]].name, sum[order[i]]);
	json_object_object_add(root, "sums", sums);
}

/* Prints the counters of a group, unless it has only one, which is its sum. */
static void print_reasons(struct json_object *counters, enum ctl_group group)
{
	unsigned int i, n = 0;

	for (i = 0; i < _TPROXY_STAT_MAX; i++)
		n += groups[i] == group;
	for (i = 0; n > 1 && i < _TPROXY_STAT_MAX; i++) {
		const char *name = counters_name(i);

		if (groups[i] == group)
			printf("  %-33s %" PRIu64 "\n", name, json_get_number(counters, name));
	}
}

static void print_sums(struct json_object *root)
{
	struct json_object *counters = json_object_object_get(root, "counters");
	struct json_object *sums = json_object_object_get(root, "sums");
	size_t i;

	printf("\n%-35s %s\n", "OUTCOME", "CONNECTIONS");
	for (i = 0; i < ARRAY_SIZE(order); i++) {
		printf("%-35s %" PRIu64 "\n", group_names[order[i]].heading,
		       json_get_number(sums, group_names[order[i]].name));
		print_reasons(counters, order[i]);
	}
	printf("%s\n", "stale entries, removed");
	printf("  %-33s %" PRIu64 "\n", counters_name(TPROXY_STAT_STALE),
	       json_get_number(counters, counters_name(TPROXY_STAT_STALE)));
}

int ctl_status(int argc, char **argv)
{
	_cleanup_(json_put) struct json_object *root = NULL;
	struct ctl_options options;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	if (status_read(options.pin_dir, &root) < 0)
		return EXIT_FAILURE;
	if (status_print_not_loaded(root, options.json))
		return EXIT_FAILURE;
	add_sums(root);
	if (options.json) {
		json_print(root);
		return EXIT_SUCCESS;
	}
	status_print_state(root, options.pin_dir);
	print_sums(root);
	return EXIT_SUCCESS;
}
