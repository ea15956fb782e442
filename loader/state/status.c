// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load --status, and the base of tproxyctl status.
 *
 * status_read() collects everything into one JSON object: policy, targets and their state, links,
 * rules, relays, how many entries the maps of connections have, and the counters. The object is
 * printed as it is or as text, so that the two always agree. tproxyctl adds the sums of
 * ctl/status.c to it.
 *
 * No lock is taken. The maps may change meanwhile, so a walk over one is bounded, or skips keys
 * that are gone. Nothing is changed, but bpffs_sweep() removes entries without a socket first, so
 * that these are not counted as connections.
 */
#include "status.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bpffs.h"
#include "counters.h"
#include "escape.h"
#include "honest.h"
#include "host/json.h"
#include "host/names.h"
#include "host/namespaces.h"
#include "host/process.h"
#include "log.h"
#include "maps.h"
#include "monotonic.h"
#include "objects.h"
#include "owned.h"
#include "pinned_link.h"
#include "pins.h"
#include "policy.h"
#include "relays.h"
#include "rules_view.h"
#include "target_list.h"
#include "traffic.h"
#include "tproxy_abi.h"
#include "util.h"
#include "xdp_status.h"

#define NSEC_PER_SEC UINT64_C(1000000000)

/*
 * Adds the start time of the counters, to the nearest second. It is computed from the calendar as
 * it is now, because the clock may have been set since.
 */
static void add_since(struct json_object *root, uint64_t loaded_ns)
{
	const uint64_t ago_ns = monotonic_kernel_ns() - loaded_ns;
	struct timespec now;
	struct tm utc;
	char text[32];
	time_t then;

	clock_gettime(CLOCK_REALTIME, &now);
	then = (time_t)(((uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec - ago_ns +
			 NSEC_PER_SEC / 2) /
			NSEC_PER_SEC);
	gmtime_r(&then, &utc);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
	json_add_string(root, "counters_since", text);
}

static int add_policy(struct json_object *root, const char *pin_dir)
{
	_cleanup_free_ char *group = NULL;
	struct tproxy_policy policy;
	struct stat st;
	int r;

	r = policy_read_pinned(pin_dir, &policy);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_POLICY, r);
	json_add_string(root, "policy",
			policy.flags & TPROXY_FAIL_CLOSED ? "fail-closed" : "fail-open");
	json_add_bool(root, "include_loopback", policy.flags & TPROXY_INCLUDE_LOOPBACK);
	if (stat(pin_dir, &st) == 0) {
		group = names_group(st.st_gid);
		json_add_string(root, "relay_group", group ? group : "(out of memory)");
	}
	add_since(root, policy.loaded_ns);
	if (policy.relay_cgroup_id) {
		json_add_cgroup(root, "relay_cgroup", policy.relay_cgroup_id);
	}
	return 0;
}

static const char *const state_names[] = {
	[TARGET_PRESENT] = "present",
	[TARGET_ABSENT] = "absent",
	[TARGET_REPLACED] = "replaced",
	[TARGET_UNKNOWN] = "unknown",
};

/* Adds the cgroups of the load, and whether they are still the same ones. */
static int add_targets(struct json_object *root, const char *pin_dir)
{
	_cleanup_free_ struct tproxy_target *list = NULL;
	struct json_object *cgroups = json_object_new_array();
	size_t n = 0, i;
	int r;

	json_object_object_add(root, "cgroups", cgroups);
	r = target_list_read_pinned(pin_dir, &list, &n);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_TARGETS, r);
	for (i = 0; i < n; i++) {
		struct json_object *object = json_object_new_object();
		char text[ESCAPE_LEN(sizeof(list[i].path))];

		escape_text(list[i].path, strlen(list[i].path), text, sizeof(text));
		json_add_string(object, "path", text);
		json_add_string(object, "role",
				list[i].flags == TPROXY_TARGET_RELAY ? "relay" : "scope");
		json_add_string(object, "state", state_names[target_state_of(&list[i])]);
		json_object_array_add(cgroups, object);
	}
	return 0;
}

/* A callback of pins_for_each(): adds a link. */
static int add_link(struct pins *pins, const char *name, void *data)
{
	struct json_object *links = data, *object;
	char text[MAPS_ERROR_LEN];
	struct pinned_link link;
	int r;

	r = pinned_link_read(pins, name, &link);
	if (r == -EINVAL)
		return 0;
	if (r < 0) {
		log_err("cannot read '%s/%s': %s", pins->path, name,
			maps_strerror(pins->path, name, r, text));
		return r;
	}
	object = json_object_new_object();
	json_add_string(object, "program", link.hook);
	json_add_cgroup(object, "cgroup", link.cgroup_id);
	json_add_bool(object, "attached", link.attached);
	json_add_number(object, "program_id", link.prog_id);
	json_add_number(object, "link_id", link.link_id);
	json_object_array_add(links, object);
	return 0;
}

static int by_order_of_hooks(const void *a, const void *b)
{
	struct json_object *const *x = a, *const *y = b;
	const struct hook *hx = hook_by_name(json_get_string(*x, "program"));
	const struct hook *hy = hook_by_name(json_get_string(*y, "program"));
	int by_cgroup = strcmp(json_get_string(*x, "cgroup"), json_get_string(*y, "cgroup"));

	if (by_cgroup)
		return by_cgroup;
	return (hx > hy) - (hx < hy);
}

static int add_links(struct json_object *root, const char *pin_dir)
{
	/* pins_for_each() needs only the path, and reading needs no lock. */
	struct pins pins = { .path = pin_dir, .fd = -1 };
	struct json_object *links = json_object_new_array();

	json_object_object_add(root, "links", links);
	if (pins_for_each(&pins, add_link, links) < 0)
		return -EIO;
	json_object_array_sort(links, by_order_of_hooks);
	return 0;
}

/* Adds how many rings are in use. */
static void add_rings(struct json_object *root, const struct honest *honest)
{
	struct json_object *rings = json_object_new_object();

	json_add_number(rings, "used", honest->n_rings_used);
	json_add_number(rings, "count", TPROXY_RINGS_MAX);
	json_object_object_add(root, "rings", rings);
}

static int add_relays(struct json_object *root, const char *pin_dir)
{
	_cleanup_(honest_finish) struct honest honest = {};
	struct json_object *relays = json_object_new_array();
	_cleanup_free_ struct relays_entry *list = NULL;
	size_t n = 0, i;
	int r;

	json_object_object_add(root, "relays", relays);
	r = relays_read_pinned(pin_dir, &list, &n);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_CONFIG, r);
	r = honest_read(pin_dir, &honest);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_LISTENERS, r);
	add_rings(root, &honest);
	for (i = 0; i < n; i++) {
		const struct tproxy_relay *relay = &list[i].relay;
		struct json_object *object;

		object = json_object_new_object();
		json_add_number(object, "netns_cookie", list[i].netns_cookie);
		json_add_number(object, "pid", relay->pid);
		json_add_number(object, "uid", relay->uid);
		json_add_string(object, "honest_connect",
				honest_name(honest_flags(&honest, list[i].netns_cookie)));
		json_add_listen(object, "listen", &relay->listen[TPROXY_INET]);
		json_add_listen(object, "listen6", &relay->listen[TPROXY_INET6]);
		/* A PID of the initial namespace says nothing in another one. */
		if (namespaces_is_initial(NAMESPACES_PID))
			json_add_bool(object, "process_exists", process_exists((pid_t)relay->pid));
		json_object_array_add(relays, object);
	}
	return 0;
}

static int add_counters(struct json_object *root, const char *pin_dir)
{
	struct json_object *counters = json_object_new_object();
	uint64_t counts[_TPROXY_STAT_MAX];
	int r, i;

	json_object_object_add(root, "counters", counters);
	r = counters_read(pin_dir, counts);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_STATS, r);
	for (i = 0; i < _TPROXY_STAT_MAX; i++)
		json_add_number(counters, counters_name((unsigned int)i), counts[i]);
	return 0;
}

/* Prints the first address, and how many more ports there are. */
static void print_listen(struct json_object *relay, const char *key)
{
	struct json_object *list = json_object_object_get(relay, key);
	size_t n = list ? json_object_array_length(list) : 0;

	if (n == 0)
		return;
	printf(" %s", json_object_get_string(json_object_array_get_idx(list, 0)));
	if (n > 1)
		printf(" +%zu", n - 1);
}

static int add_entries(struct json_object *root, const char *pin_dir, enum pinned_map_id id)
{
	struct tproxy_tuple key, *prev = NULL; /* the larger key of the two maps */
	_cleanup_close_ int fd = -1;
	uint64_t n = 0;
	int r;

	r = maps_open(pin_dir, id, /* writable= */ false, &fd);
	if (r < 0)
		return r;
	/* Bounded: the walk starts again if its key is deleted meanwhile. */
	for (; n < TPROXY_CONNECTIONS_MAX && bpf_map_get_next_key(fd, prev, &key) == 0; n++)
		prev = &key;
	json_add_number(root, pinned_maps[id].name, n);
	return 0;
}

static void print_target_state(const char *state, const char *pin_dir)
{
	char again[PINS_AGAIN_LEN];

	pins_format_again(pin_dir, again);
	if (strcmp(state, "replaced") == 0)
		printf("  REPLACED: created again, not attached; run: %s", again);
	else if (strcmp(state, "absent") == 0)
		printf("  ABSENT: does not exist; once it does, attach with: %s", again);
	else if (strcmp(state, "unknown") == 0)
		printf("  UNKNOWN: not visible here; look outside of containers, as root");
	printf("\n");
}

static void print_targets(struct json_object *root, const char *pin_dir)
{
	struct json_object *list = json_object_object_get(root, "cgroups"), *object;
	const char *state;
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		object = json_object_array_get_idx(list, i);
		state = json_get_string(object, "state");
		/* A relay cgroup that is present has a row of its own. */
		if (strcmp(json_get_string(object, "role"), "relay") == 0 &&
		    strcmp(state, "present") == 0)
			continue;
		printf("%-14s %s",
		       strcmp(json_get_string(object, "role"), "relay") ? "scope" : "relays",
		       json_get_string(object, "path"));
		print_target_state(state, pin_dir);
	}
}

/* The member "traffic". */
static const char *const traffic_names[] = {
	[TRAFFIC_OFF] = "off",
	[TRAFFIC_FOR_NOW] = "top",
	[TRAFFIC_STAYS] = "load",
};

static void print_traffic(struct json_object *root)
{
	const char *state = json_get_string(root, "traffic");

	if (strcmp(state, traffic_names[TRAFFIC_OFF]) != 0)
		printf("traffic        counted by cgroup, %s\n",
		       strcmp(state, traffic_names[TRAFFIC_STAYS]) ? "while tproxyctl top shows it"
								   : "by --traffic");
}

static void print_rules(struct json_object *root)
{
	struct json_object *rules = json_object_object_get(root, "rules");
	const uint64_t generation = json_get_number(rules, "generation");

	if (!generation) {
		printf("rules          none\n");
		return;
	}
	printf("rules          %" PRIu64 ", default %s; generation %" PRIu64 ", from %s%s\n",
	       json_get_number(rules, "count"), json_get_string(rules, "default"), generation,
	       json_get_string(rules, "file"), rules_view_unconfirmed(rules));
}

void status_print_state(struct json_object *root, const char *pin_dir)
{
	struct json_object *list, *object;
	size_t i;

	printf("pin directory  %s\n", json_get_string(root, "pin_dir"));
	printf("ABI version    %" PRIu64 "\n", json_get_number(root, "abi_version"));
	printf("policy         %s, loopback destinations %s\n", json_get_string(root, "policy"),
	       json_get_bool(root, "include_loopback") ? "included" : "bypassed");
	if (json_object_object_get_ex(root, "relay_cgroup", NULL))
		printf("relay cgroup   %s\n", json_get_string(root, "relay_cgroup"));
	if (json_object_object_get_ex(root, "relay_group", NULL))
		printf("relay group    %s\n", json_get_string(root, "relay_group"));
	print_rules(root);
	print_traffic(root);
	printf("counting since %s\n", json_get_string(root, "counters_since"));
	print_targets(root, pin_dir);
	printf("connections    %" PRIu64 " in map_socks, %" PRIu64 " in map_ports%s\n",
	       json_get_number(root, "map_socks"), json_get_number(root, "map_ports"),
	       json_get_bool(root, "list") ? "" : "; NO LIST is pinned");
	object = json_object_object_get(root, "rings");
	printf("rings          %" PRIu64 " of %" PRIu64 " in use, for honest connect\n",
	       json_get_number(object, "used"), json_get_number(object, "count"));

	printf("\n%-10s %-9s %8s %8s  %s\n", "PROGRAM", "STATE", "PROG ID", "LINK ID", "CGROUP");
	list = json_object_object_get(root, "links");
	for (i = 0; i < json_object_array_length(list); i++) {
		object = json_object_array_get_idx(list, i);
		printf("%-10s %-9s %8" PRIu64 " %8" PRIu64 "  %s\n",
		       json_get_string(object, "program"),
		       json_get_bool(object, "attached") ? "attached" : "DETACHED",
		       json_get_number(object, "program_id"), json_get_number(object, "link_id"),
		       json_get_string(object, "cgroup"));
	}

	xdp_status_print(root);

	printf("\n%-12s %8s %8s  %-8s %-10s %s\n", "RELAY NETNS", "PID", "UID", "PROCESS", "HONEST",
	       "LISTENS ON");
	list = json_object_object_get(root, "relays");
	for (i = 0; i < json_object_array_length(list); i++) {
		object = json_object_array_get_idx(list, i);
		printf("%-12" PRIu64 " %8" PRIu64 " %8" PRIu64 "  %-8s %-10s",
		       json_get_number(object, "netns_cookie"), json_get_number(object, "pid"),
		       json_get_number(object, "uid"),
		       !json_object_object_get_ex(object, "process_exists", NULL) ? "unknown"
		       : json_get_bool(object, "process_exists")		  ? "exists"
										  : "GONE",
		       json_get_string(object, "honest_connect"));
		print_listen(object, "listen");
		print_listen(object, "listen6");
		printf("\n");
	}
	if (i == 0)
		printf("(none registered: nothing is redirected)\n");
}

static void print_counters(struct json_object *root)
{
	struct json_object *object;
	size_t i;

	printf("\n%-18s %s\n", "COUNTER", "CONNECTIONS");
	object = json_object_object_get(root, "counters");
	for (i = 0; i < _TPROXY_STAT_MAX; i++)
		printf("%-18s %" PRIu64 "\n", counters_name((unsigned int)i),
		       json_get_number(object, counters_name((unsigned int)i)));
}

/* Adds whether the list of live connections is pinned. */
static void add_list(struct json_object *root, const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };

	json_add_bool(root, "list", owned_by_tproxy(&pins, PINNED_LIST) > 0);
}

static int add_rules(struct json_object *root, const char *pin_dir)
{
	int r = rules_view_add_summary(root, pin_dir);

	return r < 0 ? maps_log_error(pin_dir, PINNED_RULES_ACTIVE, r) : 0;
}

static int read_all(struct json_object *root, const char *pin_dir)
{
	int r;

	r = add_policy(root, pin_dir);
	if (r < 0)
		return r;
	r = add_targets(root, pin_dir);
	if (r < 0)
		return r;
	r = add_links(root, pin_dir);
	if (r < 0)
		return r;
	r = add_rules(root, pin_dir);
	if (r < 0)
		return r;
	r = xdp_status_add(root, pin_dir);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_BLOCK_STATS, r);
	r = add_relays(root, pin_dir);
	if (r < 0)
		return r;
	r = add_entries(root, pin_dir, PINNED_SOCKS);
	if (r < 0)
		return r;
	r = add_entries(root, pin_dir, PINNED_PORTS);
	if (r < 0)
		return r;
	add_list(root, pin_dir);
	json_add_string(root, "traffic", traffic_names[traffic_state(pin_dir)]);
	return add_counters(root, pin_dir);
}

int status_read(const char *pin_dir, struct json_object **ret_root)
{
	_cleanup_(json_put) struct json_object *root = json_new_document();
	uint32_t version;
	int r;

	r = maps_check_abi(pin_dir, &version);
	if (r < 0 && r != -ENOENT)
		return r;
	json_add_bool(root, "loaded", r == 0);
	json_add_string(root, "pin_dir", pin_dir);
	if (r == 0) {
		bpffs_sweep(pin_dir);
		json_add_number(root, "abi_version", version);
		r = read_all(root, pin_dir);
		if (r < 0)
			return r;
	}
	*ret_root = TAKE_PTR(root);
	return 0;
}

bool status_print_not_loaded(struct json_object *root, bool json)
{
	if (json_get_bool(root, "loaded"))
		return false;
	if (json)
		json_print(root);
	else
		printf("not loaded: nothing is pinned in '%s'\n", json_get_string(root, "pin_dir"));
	return true;
}

int status(const char *pin_dir, bool json)
{
	_cleanup_(json_put) struct json_object *root = NULL;
	int r;

	r = status_read(pin_dir, &root);
	if (r < 0)
		return r;
	if (status_print_not_loaded(root, json))
		return -ENOENT;
	if (json) {
		json_print(root);
	} else {
		status_print_state(root, pin_dir);
		print_counters(root);
	}
	return 0;
}
