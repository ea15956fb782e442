// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See upstreams.h. The workers write health and figures while they are read here: each number is
 * right, but two of them may be of different moments.
 *
 * A group has no health of its own. It is up while one of its members is not down.
 */
#include "upstreams.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "jsonout.h"
#include "promtext.h"
#include "upstream/resolver.h"
#include "upstream/upstream.h"
#include "util.h"

static const char *const types[] = {
	[UPSTREAM_DIRECT] = "direct", [UPSTREAM_SOCKS5] = "socks5", [UPSTREAM_HTTP] = "http",
	[UPSTREAM_TCP] = "tcp",	      [UPSTREAM_GROUP] = "group",
};

static const char *const orders[] = {
	[UPSTREAM_FAILOVER] = "failover",
	[UPSTREAM_WEIGHTED] = "weighted",
	[UPSTREAM_HASH_CLIENT] = "hash-client",
	[UPSTREAM_HASH_DESTINATION] = "hash-destination",
};

static bool is_down(const struct upstream *u)
{
	const enum health_state state = atomic_load(&u->health.state);

	return state == HEALTH_DOWN || state == HEALTH_TRYING;
}

/* Returns true if connections can go through u, as far as is known. */
static bool is_usable(const struct upstreams *set, const struct upstream *u)
{
	struct upstream *const *members;
	size_t i;

	if (u->conf.type != UPSTREAM_GROUP)
		return !is_down(u);
	members = upstreams_members(set, u);
	for (i = 0; i < u->conf.n_members; i++) {
		if (!is_down(members[i]))
			return true;
	}
	return false;
}

/* --- JSON */

static void write_address(struct jsonout *json, const struct upstream *u)
{
	char text[UPSTREAM_ADDR_TEXT_LEN], named[UPSTREAM_HOST_LEN + 8];
	union upstream_addr addrs[RESOLVER_ADDRESSES_MAX];
	size_t n, i;

	if (*u->conf.host)
		snprintf(named, sizeof(named), "%s:%u", u->conf.host, u->conf.port);
	jsonout_text(json, "address",
		     *u->conf.host ? named : upstream_addr_text(&u->conf.addr, text));
	jsonout_bool(json, "tls", u->conf.tls);
	jsonout_array(json, "resolved");
	n = *u->conf.host
		    ? upstream_addresses(u, upstream_good_address(u), addrs, ARRAY_SIZE(addrs))
		    : 0;
	for (i = 0; i < n; i++)
		jsonout_text(json, NULL, upstream_addr_text(&addrs[i], text));
	jsonout_end(json);
}

static void write_failures(struct jsonout *json, const struct health_snapshot *h)
{
	enum health_failure how;

	jsonout_object(json, "failures");
	for (how = 0; how < _HEALTH_FAILURE_MAX; how++)
		jsonout_number(json, health_failure_name(how), h->failures[how]);
	jsonout_end(json);
}

static void write_health(struct jsonout *json, const struct upstream *u, uint64_t now_ms)
{
	struct health_snapshot h;

	health_read(&u->health, &h);
	jsonout_text(json, "state", health_state_name(h.state));
	if (h.since_ms)
		jsonout_number(json, "since_ms", now_ms > h.since_ms ? now_ms - h.since_ms : 0);
	if (h.state == HEALTH_DOWN)
		jsonout_number(json, "retry_in_ms", h.retry_ms > now_ms ? h.retry_ms - now_ms : 0);
	jsonout_text(json, "why", *h.why ? h.why : NULL);
	jsonout_text(json, "error", h.error ? strerrorname_np(h.error) : NULL);
	jsonout_number(json, "consecutive_failures", h.consecutive);
	jsonout_number(json, "dials", h.dials);
	jsonout_number(json, "failed", h.failed);
	write_failures(json, &h);
	jsonout_number(json, "dial_us", h.ewma_us);
}

static void write_members(struct jsonout *json, const struct upstreams *set,
			  const struct upstream *u)
{
	struct upstream *const *members = upstreams_members(set, u);
	size_t i;

	jsonout_text(json, "order", orders[u->conf.order]);
	jsonout_text(json, "state", is_usable(set, u) ? "up" : "down");
	jsonout_array(json, "members");
	for (i = 0; i < u->conf.n_members; i++) {
		jsonout_object(json, NULL);
		jsonout_text(json, "name", members[i]->conf.name);
		jsonout_number(json, "weight", u->conf.members[i].weight);
		jsonout_bool(json, "down", is_down(members[i]));
		jsonout_end(json);
	}
	jsonout_end(json);
}

static void write_figures(struct jsonout *json, const struct upstream_figures *f)
{
	jsonout_number(json, "connections", atomic_load(&f->connections));
	jsonout_number(json, "total", atomic_load(&f->total));
	jsonout_number(json, "refused", atomic_load(&f->refused));
	jsonout_number(json, "bytes_up", atomic_load(&f->bytes_up));
	jsonout_number(json, "bytes_down", atomic_load(&f->bytes_down));
}

static void write_upstream(struct jsonout *json, const struct upstreams *set,
			   const struct upstream *u, uint64_t now_ms)
{
	jsonout_object(json, NULL);
	jsonout_text(json, "name", u->conf.name);
	jsonout_text(json, "type", types[u->conf.type]);
	jsonout_bool(json, "default", u == set->by_default);
	if (upstream_has_health(u)) {
		write_address(json, u);
		write_health(json, u, now_ms);
	}
	if (u->conf.type == UPSTREAM_GROUP)
		write_members(json, set, u);
	else
		write_figures(json, &u->figures);
	jsonout_end(json);
}

void upstreams_report_list(struct jsonout *json, const struct upstreams *set, uint64_t now_ms)
{
	size_t i;

	jsonout_array(json, "upstreams");
	for (i = 0; set && i < set->n; i++)
		write_upstream(json, set, set->list[i], now_ms);
	jsonout_end(json);
}

void upstreams_report_json(FILE *out, const struct upstreams *set, uint64_t now_ms)
{
	struct jsonout json;

	jsonout_begin(&json, out);
	jsonout_number(&json, "version", UPSTREAMS_JSON_VERSION);
	upstreams_report_list(&json, set, now_ms);
	jsonout_end(&json);
	fputc('\n', out);
}

/* --- metrics */

static void write_value(FILE *out, const char *metric, const struct upstream *u, uint64_t value)
{
	fprintf(out, "%s{upstream=\"%s\"} %" PRIu64 "\n", metric, u->conf.name, value);
}

static const struct {
	const char *name, *type, *help;
	size_t offset; /* in struct upstream_figures */
} figures[] = {
	{ "tproxy_upstream_connections", "gauge", "Connections through the upstream now.",
	  offsetof(struct upstream_figures, connections) },
	{ "tproxy_upstream_connections_total", "counter",
	  "Connections that were established through the upstream.",
	  offsetof(struct upstream_figures, total) },
	{ "tproxy_upstream_refused_total", "counter",
	  "Destinations that the upstream has refused, or could not reach.",
	  offsetof(struct upstream_figures, refused) },
	{ "tproxy_upstream_sent_bytes_total", "counter",
	  "Bytes to destinations, of connections that have ended.",
	  offsetof(struct upstream_figures, bytes_up) },
	{ "tproxy_upstream_received_bytes_total", "counter",
	  "Bytes from destinations, of connections that have ended.",
	  offsetof(struct upstream_figures, bytes_down) },
};

static void write_figure_metrics(FILE *out, const struct upstreams *set)
{
	size_t m, i;

	for (m = 0; m < ARRAY_SIZE(figures); m++) {
		promtext_head(out, figures[m].name, figures[m].type, figures[m].help);
		for (i = 0; i < set->n; i++) {
			const char *f = (const char *)&set->list[i]->figures;

			if (set->list[i]->conf.type == UPSTREAM_GROUP)
				continue;
			write_value(out, figures[m].name, set->list[i],
				    atomic_load((const _Atomic uint64_t *)(f + figures[m].offset)));
		}
	}
}

static void write_dial_times(FILE *out, const struct upstreams *set)
{
	const char *const name = "tproxy_upstream_dial_seconds";
	struct health_snapshot h;
	uint64_t sum;
	size_t i, k;

	promtext_head(out, name, "histogram",
		      "Time of successful dials: connect() and the upstream's handshake.");
	for (i = 0; i < set->n; i++) {
		const char *upstream = set->list[i]->conf.name;

		if (!upstream_has_health(set->list[i]))
			continue;
		health_read(&set->list[i]->health, &h);
		for (k = 0, sum = 0; k < HEALTH_BOUNDS; k++) {
			sum += h.dial_us[k];
			fprintf(out, "%s_bucket{upstream=\"%s\",le=\"%g\"} %" PRIu64 "\n", name,
				upstream, health_bounds_us[k] / 1e6, sum);
		}
		sum += h.dial_us[HEALTH_BOUNDS];
		fprintf(out, "%s_bucket{upstream=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, upstream,
			sum);
		fprintf(out, "%s_sum{upstream=\"%s\"} %.6f\n", name, upstream,
			(double)h.dial_sum_us / 1e6);
		fprintf(out, "%s_count{upstream=\"%s\"} %" PRIu64 "\n", name, upstream, sum);
	}
}

static void write_failure_metrics(FILE *out, const struct upstreams *set)
{
	const char *const name = "tproxy_upstream_dials_failed_total";
	enum health_failure how;
	struct health_snapshot h;
	size_t i;

	promtext_head(out, name, "counter", "Dials that have failed, by the step that failed.");
	for (i = 0; i < set->n; i++) {
		if (!upstream_has_health(set->list[i]))
			continue;
		health_read(&set->list[i]->health, &h);
		for (how = 0; how < _HEALTH_FAILURE_MAX; how++)
			fprintf(out, "%s{upstream=\"%s\",reason=\"%s\"} %" PRIu64 "\n", name,
				set->list[i]->conf.name, health_failure_name(how), h.failures[how]);
	}
}

void upstreams_report_metrics(FILE *out, const struct upstreams *set)
{
	size_t i;

	if (!set)
		return;
	promtext_head(out, "tproxy_upstream_up", "gauge",
		      "0 if the upstream, or each member of the group, is down.");
	for (i = 0; i < set->n; i++)
		write_value(out, "tproxy_upstream_up", set->list[i], is_usable(set, set->list[i]));
	promtext_head(out, "tproxy_upstream_dials_total", "counter",
		      "Dials that have succeeded or failed.");
	for (i = 0; i < set->n; i++) {
		if (upstream_has_health(set->list[i]))
			write_value(out, "tproxy_upstream_dials_total", set->list[i],
				    atomic_load(&set->list[i]->health.dials));
	}
	write_failure_metrics(out, set);
	write_dial_times(out, set);
	write_figure_metrics(out, set);
}
