// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl connections: prints map_socks, as a table or as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "commands.h"
#include "escape.h"
#include "host/address.h"
#include "host/json.h"
#include "host/names.h"
#include "log.h"
#include "monotonic.h"
#include "options.h"
#include "parse.h"
#include "state/conns.h"
#include "state/maps.h"
#include "tproxy_abi.h"
#include "util.h"

static const struct ctl_usage usage = {
	.command = CTL_CONNECTIONS,
	.synopsis = "[--json] [-p DIR]",
	.about = "Prints the redirected connections that are alive, the oldest first.\n",
};

/*
 * A cache of names of users, or of cgroups. Many connections share a few, and looking up each one's
 * would take long.
 */
struct name_cache {
	char *(*lookup)(uint64_t id);
	struct {
		uint64_t id;
		char *name; /* NULL: free */
	} slots[64];
};

/* The result is valid until the next call with this cache. */
static const char *name_of(struct name_cache *cache, uint64_t id)
{
	size_t i = id % ARRAY_SIZE(cache->slots);

	if (!cache->slots[i].name || cache->slots[i].id != id) {
		free(cache->slots[i].name);
		cache->slots[i].id = id;
		cache->slots[i].name = cache->lookup(id);
	}
	return cache->slots[i].name ? cache->slots[i].name : "?";
}

static void name_cache_finish(struct name_cache *cache)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cache->slots); i++)
		free(cache->slots[i].name);
}

static int by_age(const void *a, const void *b)
{
	const struct conns_entry *x = a, *y = b;

	return (x->conn.started_ns > y->conn.started_ns) -
	       (x->conn.started_ns < y->conn.started_ns);
}

static uint64_t age_ms(const struct tproxy_conn *conn, uint64_t now)
{
	return now > conn->started_ns ? (now - conn->started_ns) / 1000000 : 0;
}

static void print_text(const struct conns_entry *entries, size_t n, uint64_t now,
		       struct name_cache *users, struct name_cache *cgroups)
{
	char comm[ESCAPE_LEN(TPROXY_COMM_LEN)], age[FORMAT_DURATION_LEN];
	char src[ADDRESS_ENDPOINT_LEN], dst[ADDRESS_ENDPOINT_LEN];
	size_t i;

	printf("%-12s %8s %-16s %-12s %-22s %-22s %s\n", "AGE", "PID", "COMMAND", "USER", "SOURCE",
	       "DESTINATION", "CGROUP");
	for (i = 0; i < n; i++) {
		const struct tproxy_conn *conn = &entries[i].conn;

		printf("%-12s %8u %-16s %-12s %-22s %-22s %s\n",
		       format_duration_ms(age_ms(conn, now), age), conn->pid,
		       escape_text(conn->comm, sizeof(conn->comm), comm, sizeof(comm)),
		       name_of(users, conn->uid), address_format_endpoint(&conn->src, src),
		       address_format_endpoint(&conn->dst, dst), name_of(cgroups, conn->cgroup_id));
	}
}

/* Adds {"address": "...", "port": N}, or null while there is none. */
static void add_endpoint(struct json_object *to, const char *key, const struct tproxy_endpoint *ep)
{
	struct json_object *object = ep->port ? json_object_new_object() : NULL;
	char address[ADDRESS_LEN];

	if (object) {
		json_add_string(object, "address", address_format(ep, address));
		json_add_number(object, "port", ep->port);
	}
	json_object_object_add(to, key, object);
}

/* conn->comm may lack the NUL at its end. */
static void add_command(struct json_object *to, const struct tproxy_conn *conn)
{
	char comm[TPROXY_COMM_LEN + 1] = "";

	memcpy(comm, conn->comm, TPROXY_COMM_LEN);
	json_add_string(to, "command", comm);
}

/*
 * Prints one object at a time: all of them at once would take a hundred times the size of the map.
 */
static void print_json(const struct conns_entry *entries, size_t n, bool loaded,
		       const char *pin_dir, uint64_t now, struct name_cache *users,
		       struct name_cache *cgroups)
{
	_cleanup_(json_put) struct json_object *head = json_new_document();
	const char *text;
	size_t i;

	json_add_bool(head, "loaded", loaded);
	json_add_string(head, "pin_dir", pin_dir);
	text = json_object_to_json_string_ext(head, JSON_C_TO_STRING_NOSLASHESCAPE |
							    JSON_C_TO_STRING_PLAIN);
	/* The members of the head, without its closing bracket. */
	printf("%.*s,\n\"connections\":[", (int)strlen(text) - 1, text);
	for (i = 0; i < n; i++) {
		_cleanup_(json_put) struct json_object *object = json_object_new_object();
		const struct tproxy_conn *conn = &entries[i].conn;

		json_add_number(object, "cookie", entries[i].cookie);
		json_add_number(object, "netns_cookie", conn->netns_cookie);
		json_add_number(object, "pid", conn->pid);
		add_command(object, conn);
		json_add_number(object, "uid", conn->uid);
		json_add_string(object, "user", name_of(users, conn->uid));
		json_add_number(object, "cgroup_id", conn->cgroup_id);
		json_add_string(object, "cgroup", name_of(cgroups, conn->cgroup_id));
		add_endpoint(object, "source", &conn->src);
		add_endpoint(object, "destination", &conn->dst);
		json_add_number(object, "age_ms", age_ms(conn, now));
		printf("%s\n    %s", i ? "," : "",
		       json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE));
	}
	printf("%s]}\n", n ? "\n" : "");
}

int ctl_connections(int argc, char **argv)
{
	_cleanup_(name_cache_finish) struct name_cache cgroups = { .lookup = names_cgroup };
	_cleanup_(name_cache_finish) struct name_cache users = { .lookup = names_user };
	_cleanup_free_ struct conns_entry *entries = NULL;
	struct ctl_options options;
	uint32_t version;
	uint64_t now;
	size_t n = 0;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	r = maps_check_abi(options.pin_dir, &version);
	if (r == -ENOENT && options.json)
		print_json(NULL, 0, /* loaded= */ false, options.pin_dir, 0, &users, &cgroups);
	else if (r == -ENOENT)
		log_err(MAPS_NOT_LOADED, options.pin_dir);
	if (r < 0)
		return EXIT_FAILURE;
	bpffs_sweep(options.pin_dir);
	r = conns_read(options.pin_dir, &entries, &n);
	if (r < 0) {
		maps_log_error(options.pin_dir, PINNED_SOCKS, r);
		return EXIT_FAILURE;
	}
	now = monotonic_kernel_ns();
	qsort(entries, n, sizeof(*entries), by_age);
	if (options.json)
		print_json(entries, n, /* loaded= */ true, options.pin_dir, now, &users, &cgroups);
	else
		print_text(entries, n, now, &users, &cgroups);
	return EXIT_SUCCESS;
}
