// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl connections: prints the live connections, as a table or as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "commands.h"
#include "escape.h"
#include "filter.h"
#include "host/address.h"
#include "host/json.h"
#include "host/name_cache.h"
#include "host/names.h"
#include "log.h"
#include "options.h"
#include "parse.h"
#include "state/connections.h"
#include "state/maps.h"
#include "state/upstream_names.h"
#include "tproxy_abi.h"
#include "util.h"

static const struct ctl_usage usage = {
	.command = CTL_CONNECTIONS,
	.synopsis = "[--json] [-p DIR] [FILTER]...",
	.about =
		"Prints the redirected and observed connections that are alive, the oldest first.\n" FILTER_ABOUT,
};

static char *look_up_user(uint64_t uid, const void *hint)
{
	return names_user(uid);
}

static char *look_up_cgroup(uint64_t id, const void *hint)
{
	return names_cgroup(id);
}

/* The connections that the filter selects, in a table that grows. */
struct table {
	const struct conn_filter *filter;
	struct conn_row *rows;
	size_t n, size;
};

static void table_finish(struct table *table)
{
	free(table->rows);
}

/* A callback of connections_read(). */
static int add_row(const struct conn_row *row, void *data)
{
	struct table *table = data;

	if (!filter_matches(table->filter, row))
		return 0;
	if (table->n == table->size) {
		const size_t size = table->size ? 2 * table->size : 64;
		struct conn_row *rows = reallocarray(table->rows, size, sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		table->rows = rows;
		table->size = size;
	}
	table->rows[table->n++] = *row;
	return 0;
}

/* The order of ages in milliseconds is another one in each reading. */
static int by_age(const void *a, const void *b)
{
	const struct conn_row *x = a, *y = b;

	if (x->started_ns != y->started_ns)
		return x->started_ns > y->started_ns ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

/* "12.345 ms", or "-" if no round trip time was measured. */
static char *format_rtt(const struct conn_row *row, char buf[32])
{
	if (row->rtt_us)
		snprintf(buf, 32, "%u.%03u ms", row->rtt_us / 1000, row->rtt_us % 1000);
	else
		strcpy(buf, "-");
	return buf;
}

/* "RULE", "RULE via UPSTREAM", "via UPSTREAM" or "-". */
#define RULE_LEN (CONN_ROW_RULE_LEN + TPROXY_UPSTREAM_NAME_LEN + 8)
static char *format_rule(const struct conn_row *row, char buf[RULE_LEN])
{
	const bool rule = *row->rule, upstream = *row->upstream;

	snprintf(buf, RULE_LEN, "%s%s%s%s", rule || upstream ? row->rule : "-",
		 rule && upstream ? " " : "", upstream ? "via " : "", row->upstream);
	return buf;
}

static void print_text(const struct table *table, struct name_cache *users,
		       struct name_cache *cgroups)
{
	char comm[ESCAPE_LEN(TPROXY_COMM_LEN)], age[FORMAT_DURATION_LEN], rtt[32];
	char src[ADDRESS_ENDPOINT_LEN], dst[ADDRESS_ENDPOINT_LEN];
	char tx[FORMAT_BYTES_LEN], rx[FORMAT_BYTES_LEN], rule[RULE_LEN];
	size_t i;

	printf("%-12s %8s %-16s %-12s %-10s %-11s %-22s %-22s %10s %10s %11s %-12s %s\n", "AGE",
	       "PID", "COMMAND", "USER", "VERDICT", "STATE", "SOURCE", "DESTINATION", "SENT",
	       "RECEIVED", "RTT", "RULE", "CGROUP");
	for (i = 0; i < table->n; i++) {
		const struct conn_row *row = &table->rows[i];

		printf("%-12s %8u %-16s %-12s %-10s %-11s %-22s %-22s %10s %10s %11s %-12s %s\n",
		       format_duration_ms(row->age_ms, age), row->pid,
		       escape_text(row->comm, sizeof(row->comm), comm, sizeof(comm)),
		       name_cache_get(users, row->uid, NULL), conn_verdict_name(row->verdict),
		       conn_state_name(row->state),
		       row->src.port ? address_format_endpoint(&row->src, src) : "-",
		       address_format_endpoint(&row->dst, dst),
		       row->live ? format_bytes(row->tx_bytes, tx) : "-",
		       row->live ? format_bytes(row->rx_bytes, rx) : "-", format_rtt(row, rtt),
		       format_rule(row, rule), name_cache_get(cgroups, row->cgroup_id, NULL));
	}
}

/* The members that the socket's own numbers fill in; null if the socket was not read. */
static void add_live(struct json_object *to, const struct conn_row *row)
{
	static const char *const keys[] = { "state", "tx_bytes", "rx_bytes", "rtt_us" };
	size_t i;

	if (row->live) {
		json_add_string(to, "state", conn_state_name(row->state));
		json_add_number(to, "tx_bytes", row->tx_bytes);
		json_add_number(to, "rx_bytes", row->rx_bytes);
		if (row->rtt_us)
			json_add_number(to, "rtt_us", row->rtt_us);
	}
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!json_object_object_get_ex(to, keys[i], NULL))
			json_object_object_add(to, keys[i], NULL);
	}
}

static struct json_object *row_object(const struct conn_row *row, struct name_cache *users,
				      struct name_cache *cgroups)
{
	struct json_object *object = json_object_new_object();
	char id[CONN_ROW_ID_LEN];

	json_add_string(object, "id", conn_row_id(row->id, id));
	json_add_number(object, "cookie", row->id);
	json_add_number(object, "netns_cookie", row->netns_cookie);
	json_add_number(object, "pid", row->pid);
	json_add_string(object, "command", row->comm);
	json_add_number(object, "uid", row->uid);
	json_add_string(object, "user", name_cache_get(users, row->uid, NULL));
	json_add_number(object, "cgroup_id", row->cgroup_id);
	json_add_string(object, "cgroup", name_cache_get(cgroups, row->cgroup_id, NULL));
	json_add_address(object, "source", row->src.port ? &row->src : NULL);
	json_add_address(object, "destination", &row->dst);
	json_add_string(object, "verdict", conn_verdict_name(row->verdict));
	json_object_object_add(object, "rule",
			       *row->rule ? json_object_new_string(row->rule) : NULL);
	if (*row->upstream)
		json_add_string(object, "upstream", row->upstream);
	if (row->relay_pid)
		json_add_number(object, "relay_pid", row->relay_pid);
	json_add_number(object, "age_ms", row->age_ms);
	add_live(object, row);
	return object;
}

/*
 * Prints one object at a time: all of them at once would take a hundred times the size of the map.
 */
static void print_json(const struct table *table, bool loaded, const char *pin_dir,
		       enum connections_source source, struct name_cache *users,
		       struct name_cache *cgroups)
{
	_cleanup_(json_put) struct json_object *head = json_new_document();
	const char *text;
	size_t i;

	json_add_bool(head, "loaded", loaded);
	json_add_string(head, "pin_dir", pin_dir);
	if (loaded)
		json_add_bool(head, "live", source == CONNECTIONS_LIVE);
	text = json_object_to_json_string_ext(head, JSON_C_TO_STRING_NOSLASHESCAPE |
							    JSON_C_TO_STRING_PLAIN);
	/* The members of the head, without its closing bracket. */
	printf("%.*s,\n\"connections\":[", (int)strlen(text) - 1, text);
	for (i = 0; i < table->n; i++) {
		_cleanup_(json_put) struct json_object *object =
			row_object(&table->rows[i], users, cgroups);

		printf("%s\n    %s", i ? "," : "",
		       json_object_to_json_string_ext(object, JSON_C_TO_STRING_NOSLASHESCAPE));
	}
	printf("%s]}\n", table->n ? "\n" : "");
}

static void add_upstreams(const char *pin_dir, struct table *table)
{
	struct upstream_names names;
	size_t i;

	upstream_names_open(pin_dir, &names);
	for (i = 0; i < table->n; i++)
		upstream_names_set(&names, &table->rows[i]);
	upstream_names_close(&names);
}

static int print(const struct ctl_options *options)
{
	_cleanup_(name_cache_finish) struct name_cache cgroups = { .lookup = look_up_cgroup };
	_cleanup_(name_cache_finish) struct name_cache users = { .lookup = look_up_user };
	_cleanup_(table_finish) struct table table = { .filter = &options->filter };
	enum connections_source source = CONNECTIONS_MAPS;
	uint32_t version;
	int r;

	r = maps_check_abi(options->pin_dir, &version);
	if (r == -ENOENT && options->json)
		print_json(&table, /* loaded= */ false, options->pin_dir, source, &users, &cgroups);
	else if (r == -ENOENT)
		log_err(MAPS_NOT_LOADED, options->pin_dir);
	if (r < 0)
		return EXIT_FAILURE;
	bpffs_sweep(options->pin_dir);
	r = connections_read(options->pin_dir, add_row, &table, &source);
	if (r < 0) {
		maps_log_error(options->pin_dir, PINNED_SOCKS, r);
		return EXIT_FAILURE;
	}
	add_upstreams(options->pin_dir, &table);
	if (table.n)
		qsort(table.rows, table.n, sizeof(*table.rows), by_age);
	if (source == CONNECTIONS_MAPS && !options->json)
		log_warning("state and bytes are unknown: %s",
			    connections_why_maps(options->pin_dir));
	if (options->json)
		print_json(&table, /* loaded= */ true, options->pin_dir, source, &users, &cgroups);
	else
		print_text(&table, &users, &cgroups);
	return EXIT_SUCCESS;
}

int ctl_connections(int argc, char **argv)
{
	struct ctl_options options;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	r = filter_prepare(&options.filter);
	r = r < 0 ? EXIT_FAILURE : print(&options);
	filter_finish(&options.filter);
	return r;
}
