// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl top: samples of the live connections, and names for them. See top_source.h. */
#include "top_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "escape.h"
#include "host/names.h"
#include "monotonic.h"
#include "options.h"
#include "state/connections.h"
#include "state/maps.h"
#include "top_state.h"

static char *look_up_user(uint64_t uid, const void *hint)
{
	return names_user(uid);
}

/*
 * Returns the path of a cgroup. If it cannot be read, or the cgroup was removed, returns the last
 * part of the path from the pinned list, which tells more than the id.
 */
static char *look_up_cgroup(uint64_t id, const void *hint)
{
	const struct conn_row *conn = hint;
	char last[ESCAPE_LEN(CONN_ROW_CGROUP_LEN)];
	char *path = names_cgroup(id);

	if (!path || *path == '/' || !*conn->cgroup)
		return path;
	free(path);
	return strdup(escape_text(conn->cgroup, sizeof(conn->cgroup), last, sizeof(last)));
}

static const char *user_name(void *data, uint32_t uid)
{
	struct top_source *source = data;

	return name_cache_get(&source->users, uid, NULL);
}

static const char *cgroup_name(void *data, const struct conn_row *conn)
{
	struct top_source *source = data;

	/* Traffic that found no room in the map, or is of a socket without a cgroup. */
	if (!conn->cgroup_id)
		return "(others)";
	return name_cache_get(&source->cgroups, conn->cgroup_id, conn);
}

static int add_connection(const struct conn_row *row, void *data)
{
	struct top *top = data;
	struct top_source *source = top->source;
	struct conn_row named;

	if (!filter_matches(&source->options->filter, row))
		return 0;
	named = *row;
	upstream_names_set(&source->upstreams, &named);
	return top_model_add(top->model, &named);
}

static int sample_connections(struct top *top)
{
	struct top_source *source = top->source;
	const char *pin_dir = source->options->pin_dir;
	enum connections_source from;
	char why[MAPS_ERROR_LEN];
	int r;

	/* The maps may have entries without a socket. The pinned list reads sockets. */
	if (!top->table.has_bytes)
		bpffs_sweep(pin_dir);
	top->note[0] = '\0';
	top_model_begin(top->model);
	/* For each sample: rules that are loaded meanwhile may name an id. */
	upstream_names_open(pin_dir, &source->upstreams);
	r = connections_read(pin_dir, add_connection, top, &from);
	upstream_names_close(&source->upstreams);
	if (r == 0)
		r = top_model_end(top->model, monotonic_kernel_ns() / 1000000);
	top->table.has_bytes = r == 0 && from == CONNECTIONS_LIVE;
	if (r < 0)
		snprintf(top->note, sizeof(top->note), "cannot read the connections: %s",
			 maps_strerror(pin_dir, pinned_maps[PINNED_SOCKS].name, r, why));
	else if (from == CONNECTIONS_MAPS)
		snprintf(top->note, sizeof(top->note), "no bytes, states and RTT: %s",
			 connections_why_maps(pin_dir));
	return r;
}

static int sample(struct top *top)
{
	struct top_source *source = top->source;

	name_cache_trim(&source->users);
	name_cache_trim(&source->cgroups);
	if (top->view.by == TOP_BY_TRAFFIC)
		return top_traffic_sample(top, &source->counts, source->options);
	return sample_connections(top);
}

void top_source_select(struct top *top, enum top_by by)
{
	const struct top_source *source = top->source;

	top->view.by = top->table.by = by;
	top->model = by == TOP_BY_TRAFFIC ? source->traffic : source->connections;
	top->table.model = top->model;
}

int top_source_init(struct top_source *source, const struct ctl_options *options, struct top *top)
{
	*source = (struct top_source){
		.options = options,
		.upstreams = UPSTREAM_NAMES_NULL,
		.users = { .lookup = look_up_user },
		.cgroups = { .lookup = look_up_cgroup },
		.connections = top_model_create(&top->names),
		.traffic = top_model_create(&top->names),
	};
	top_traffic_init(&source->counts);
	top->names = (struct top_names){
		.user = user_name,
		.cgroup = cgroup_name,
		.data = source,
	};
	top->table.names = &top->names;
	top->sample = sample;
	top->source = source;
	top_source_select(top, options->by);
	return source->connections && source->traffic ? 0 : -ENOMEM;
}

void top_source_finish(struct top_source *source)
{
	top_traffic_finish(&source->counts);
	top_model_destroy(source->connections);
	top_model_destroy(source->traffic);
	name_cache_finish(&source->users);
	name_cache_finish(&source->cgroups);
}
