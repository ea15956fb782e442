// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See xdp_status.h. */
#include "xdp_status.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block_stats.h"
#include "follow_lock.h"
#include "host/json.h"
#include "pins.h"
#include "target_list.h"
#include "tproxy_abi.h"
#include "util.h"
#include "xdp_holder.h"
#include "xdp_link.h"

static const char *const state_names[] = {
	[XDP_ATTACHED] = "attached", [XDP_DETACHED] = "detached", [XDP_FOREIGN] = "foreign",
	[XDP_ABSENT] = "absent",     [XDP_UNFIT] = "unfit",	  [XDP_ELSEWHERE] = "elsewhere",
	[XDP_UNKNOWN] = "unknown",
};

static struct json_object *interface_object(const struct pins *pins,
					    const struct tproxy_target *target)
{
	char why[XDP_LINK_WHY_LEN], holder[XDP_HOLDER_LEN];
	struct json_object *object = json_object_new_object();
	struct xdp_look look;

	xdp_link_look(pins, target, &look);
	json_add_string(object, "interface", target->path);
	json_add_string(object, "state", state_names[look.state]);
	json_add_string(object, "wanted_mode", xdp_link_wanted(target));
	if (look.state == XDP_FOREIGN)
		json_add_string(object, "holder", xdp_holder_describe(&look.interface, holder));
	if (look.state != XDP_ATTACHED)
		return object;
	json_add_string(object, "mode", interface_xdp_name(look.interface.xdp));
	if (*xdp_link_why(target, &look.interface, why))
		json_add_string(object, "why", why);
	json_add_number(object, "index", (uint64_t)look.interface.index);
	json_add_number(object, "program_id", look.link.prog_id);
	json_add_number(object, "link_id", look.link.link_id);
	return object;
}

static void add_counters(struct json_object *xdp, const struct tproxy_block_stat *stat)
{
	struct json_object *counters = json_object_new_object();

	json_add_number(counters, "seen", stat->seen);
	json_add_number(counters, "passed", stat->seen - stat->dropped - stat->invalid);
	json_add_number(counters, "dropped", stat->dropped);
	json_add_number(counters, "dropped_bytes", stat->dropped_bytes);
	json_add_number(counters, "invalid", stat->invalid);
	json_object_object_add(xdp, "counters", counters);
}

int xdp_status_add(struct json_object *root, const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	struct json_object *xdp = json_object_new_object(), *interfaces = json_object_new_array();
	struct tproxy_block_stat stats[_TPROXY_PLACE_MAX];
	_cleanup_free_ struct tproxy_target *list = NULL;
	size_t n = 0, i;
	pid_t pid;
	int r;

	json_object_object_add(root, "xdp", xdp);
	json_object_object_add(xdp, "interfaces", interfaces);
	r = target_list_read_xdp_pinned(pin_dir, &list, &n);
	if (r == 0)
		r = block_stats_read(pin_dir, stats);
	if (r < 0)
		return r;
	for (i = 0; i < n; i++)
		json_object_array_add(interfaces, interface_object(&pins, &list[i]));
	add_counters(xdp, &stats[TPROXY_PLACE_XDP]);
	pid = follow_lock_holder(pin_dir);
	if (pid >= 0)
		json_add_number(xdp, "follow_pid", (uint64_t)pid);
	return 0;
}

static void print_interface(struct json_object *object)
{
	static const struct {
		const char *state, *text;
	} texts[] = {
		{ "detached", "DETACHED: not filtered" },
		{ "absent", "ABSENT: does not exist" },
		{ "unfit", "UNFIT: its packets are no Ethernet frames" },
		{ "elsewhere", "ELSEWHERE: of another network namespace" },
		{ "unknown", "UNKNOWN: look as root" },
	};
	const char *state = json_get_string(object, "state");
	const char *why = json_get_string(object, "why");
	size_t i;

	printf("%-15s ", json_get_string(object, "interface"));
	if (strcmp(state, "attached") == 0)
		printf("%s%s%s%s\n", json_get_string(object, "mode"), why ? " (" : "",
		       why ? why : "", why ? ")" : "");
	if (strcmp(state, "foreign") == 0)
		printf("FOREIGN: not filtered, it has %s\n", json_get_string(object, "holder"));
	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		if (strcmp(state, texts[i].state) == 0)
			printf("%s\n", texts[i].text);
	}
}

void xdp_status_print(struct json_object *root)
{
	struct json_object *xdp = json_object_object_get(root, "xdp");
	struct json_object *list = json_object_object_get(xdp, "interfaces");
	struct json_object *counters = json_object_object_get(xdp, "counters");
	const uint64_t pid = json_get_number(xdp, "follow_pid");
	size_t i;

	if (json_object_array_length(list) == 0)
		return;
	printf("\n%-15s %s\n", "INTERFACE", "XDP");
	for (i = 0; i < json_object_array_length(list); i++)
		print_interface(json_object_array_get_idx(list, i));
	printf("packets seen %" PRIu64 ", dropped %" PRIu64 ", invalid %" PRIu64 "; ",
	       json_get_number(counters, "seen"), json_get_number(counters, "dropped"),
	       json_get_number(counters, "invalid"));
	if (!json_object_object_get_ex(xdp, "follow_pid", NULL))
		printf("only root sees whether --follow runs\n");
	else if (pid)
		printf("followed by process %" PRIu64 "\n", pid);
	else
		printf("NOT FOLLOWED: an interface that is made again is not filtered\n");
}
