// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See snapshot.h. Of the connections that were read, those with the most bytes are shown one by
 * one; all of them are in the sums. Sums are made by sorting, so that the rows of one program, or
 * of one destination, follow each other.
 */
#include "snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "conn_row.h"
#include "history.h"
#include "jsonout.h"
#include "kernel/counters.h"
#include "kernel/live.h"
#include "line.h"
#include "metrics.h"
#include "stat_name.h"
#include "upstreams.h"
#include "util.h"
#include "version.h"

#define NSEC_PER_MSEC 1000000
#define ROWS_SHOWN    200
#define SUMS_SHOWN    10

static uint64_t bytes_of(const struct conn_row *row)
{
	return row->tx_bytes + row->rx_bytes;
}

/* --- order of rows */

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_bytes(const void *a, const void *b)
{
	const struct conn_row *x = a, *y = b;
	int r = compare(bytes_of(y), bytes_of(x));

	return r ? r : compare(x->age_ms, y->age_ms);
}

static int by_program(const void *a, const void *b)
{
	const struct conn_row *x = a, *y = b;

	return memcmp(x->comm, y->comm, sizeof(x->comm));
}

static int by_destination(const void *a, const void *b)
{
	const struct conn_row *x = a, *y = b;
	int r = memcmp(x->dst.addr, y->dst.addr, sizeof(x->dst.addr));

	return r ? r : compare(x->dst.port, y->dst.port);
}

/* --- sums */

struct sum {
	const struct conn_row *first;
	uint64_t n, tx_bytes, rx_bytes;
};

static int by_size(const void *a, const void *b)
{
	const struct sum *x = a, *y = b;
	int r = compare(y->tx_bytes + y->rx_bytes, x->tx_bytes + x->rx_bytes);

	return r ? r : compare(y->n, x->n);
}

static const char *program_of(const struct conn_row *row, char buf[FORMAT_ENDPOINT_LEN])
{
	return row->comm;
}

static const char *destination_of(const struct conn_row *row, char buf[FORMAT_ENDPOINT_LEN])
{
	return line_endpoint(&row->dst, buf);
}

/* Writes the largest sums of rows that are the same to the order. sums: room for all rows. */
static void write_sums(struct jsonout *json, const char *key, const struct live *live,
		       struct sum *sums, int (*order)(const void *a, const void *b),
		       const char *(*name_of)(const struct conn_row *row,
					      char buf[FORMAT_ENDPOINT_LEN]))
{
	char name[FORMAT_ENDPOINT_LEN];
	size_t n = 0, i;

	qsort(live->rows, live->n, sizeof(*live->rows), order);
	for (i = 0; i < live->n; i++) {
		if (n == 0 || order(sums[n - 1].first, &live->rows[i]) != 0)
			sums[n++] = (struct sum){ .first = &live->rows[i] };
		sums[n - 1].n++;
		sums[n - 1].tx_bytes += live->rows[i].tx_bytes;
		sums[n - 1].rx_bytes += live->rows[i].rx_bytes;
	}
	qsort(sums, n, sizeof(*sums), by_size);
	jsonout_array(json, key);
	for (i = 0; i < n && i < SUMS_SHOWN; i++) {
		jsonout_object(json, NULL);
		jsonout_text(json, "name", name_of(sums[i].first, name));
		jsonout_number(json, "connections", sums[i].n);
		jsonout_number(json, "up", sums[i].tx_bytes);
		jsonout_number(json, "down", sums[i].rx_bytes);
		jsonout_end(json);
	}
	jsonout_end(json);
}

/* --- live connections */

static void write_row(struct jsonout *json, const struct conn_row *row)
{
	char id[CONN_ROW_ID_LEN], endpoint[FORMAT_ENDPOINT_LEN];

	jsonout_object(json, NULL);
	jsonout_text(json, "id", conn_row_id(row->id, id));
	jsonout_text(json, "command", row->comm);
	jsonout_number(json, "pid", row->pid);
	jsonout_number(json, "uid", row->uid);
	jsonout_text(json, "cgroup", *row->cgroup ? row->cgroup : NULL);
	jsonout_text(json, "verdict", conn_verdict_name(row->verdict));
	jsonout_text(json, "rule", *row->rule ? row->rule : NULL);
	jsonout_text(json, "source", row->src.port ? line_endpoint(&row->src, endpoint) : NULL);
	jsonout_text(json, "destination", line_endpoint(&row->dst, endpoint));
	jsonout_number(json, "age_ms", row->age_ms);
	if (row->live) {
		jsonout_text(json, "state", conn_state_name(row->state));
		jsonout_number(json, "up", row->tx_bytes);
		jsonout_number(json, "down", row->rx_bytes);
		jsonout_number(json, "rtt_us", row->rtt_us);
	}
	jsonout_end(json);
}

static void write_live(struct jsonout *json, const struct live *live)
{
	_cleanup_free_ struct sum *sums = calloc(live->n + 1, sizeof(*sums));
	size_t observed = 0, with_bytes = 0, i;

	for (i = 0; i < live->n; i++) {
		observed += live->rows[i].verdict == CONN_OBSERVED;
		with_bytes += live->rows[i].live;
	}
	jsonout_bool(json, "live_bytes", live->n == 0 || with_bytes > 0);
	jsonout_number(json, "read", live->n);
	jsonout_bool(json, "more", live->more);
	jsonout_number(json, "observed", observed);
	if (sums) {
		write_sums(json, "programs", live, sums, by_program, program_of);
		write_sums(json, "destinations", live, sums, by_destination, destination_of);
	}
	qsort(live->rows, live->n, sizeof(*live->rows), by_bytes);
	jsonout_array(json, "connections");
	for (i = 0; i < live->n && i < ROWS_SHOWN; i++)
		write_row(json, &live->rows[i]);
	jsonout_end(json);
}

/* --- the relay and the kernel half */

static void write_relay(struct jsonout *json, const struct snapshot *s)
{
	const struct metrics *m = s->metrics;
	uint32_t i;

	jsonout_object(json, "relay");
	jsonout_number(json, "pid", s->pid);
	jsonout_text(json, "version", TPROXY_VERSION);
	jsonout_number(json, "uptime_s", s->uptime_s);
	jsonout_bool(json, "registered", m->registered);
	jsonout_bool(json, "stuck", m->stuck);
	jsonout_number(json, "sessions_limit", m->sessions_max);
	jsonout_number(json, "lines_dropped", m->lines_dropped);
	jsonout_number(json, "resident_bytes", m->resident_bytes);
	jsonout_array(json, "workers");
	for (i = 0; i < m->n_workers; i++) {
		jsonout_object(json, NULL);
		jsonout_number(json, "sessions", stats_get(&m->workers[i]->sessions));
		jsonout_number(json, "bulk", stats_get(&m->workers[m->n_workers + i]->sessions));
		jsonout_end(json);
	}
	jsonout_end(json);
	jsonout_end(json);
}

static void write_totals(struct jsonout *json, const struct stats *sum)
{
	unsigned int i;

	jsonout_object(json, "totals");
	jsonout_number(json, "accepted", stats_get(&sum->accepted));
	jsonout_number(json, "accept_pauses", stats_get(&sum->accept_paused));
	jsonout_number(json, "up", stats_get(&sum->bytes_up));
	jsonout_number(json, "down", stats_get(&sum->bytes_down));
	jsonout_end(json);
	jsonout_object(json, "ends");
	for (i = 0; i < _CLOSE_REASON_MAX; i++) {
		if (stats_get(&sum->closed[i]))
			jsonout_number(json, close_reason_name(i), stats_get(&sum->closed[i]));
	}
	jsonout_end(json);
	jsonout_object(json, "honest_connects");
	for (i = 0; i < _HONEST_MAX; i++) {
		if (stats_get(&sum->honest[i]))
			jsonout_number(json, honest_count_name(i), stats_get(&sum->honest[i]));
	}
	jsonout_end(json);
}

static void write_rules(struct jsonout *json, const struct counters *kernel, uint64_t now_ns)
{
	char label[METRICS_RULE_LEN];
	size_t i;

	jsonout_array(json, "rules");
	for (i = 0; i < kernel->n_rules; i++) {
		const struct counted_rule *rule = &kernel->rules[i];

		jsonout_object(json, NULL);
		jsonout_text(json, "name", metrics_rule_label(kernel, i, label));
		jsonout_text(json, "action", metrics_action_name(rule->action));
		jsonout_text(json, "text", rule->text.text);
		jsonout_number(json, "hits", rule->hits);
		if (rule->last_ns)
			jsonout_number(json, "last_hit_ms_ago",
				       now_ns > rule->last_ns
					       ? (now_ns - rule->last_ns) / NSEC_PER_MSEC
					       : 0);
		jsonout_end(json);
	}
	jsonout_end(json);
}

static void write_kernel(struct jsonout *json, const struct snapshot *s)
{
	const struct counters *kernel = s->metrics->kernel;
	unsigned int i;

	jsonout_object(json, "kernel");
	jsonout_bool(json, "fail_closed", kernel->policy_flags & TPROXY_FAIL_CLOSED);
	jsonout_number(json, "loaded_ms_ago", (s->now_ns - kernel->loaded_ns) / NSEC_PER_MSEC);
	jsonout_object(json, "verdicts");
	for (i = 0; i < _CONN_VERDICT_MAX; i++)
		jsonout_number(json, conn_verdict_name(i), s->metrics->verdicts.sums[i]);
	jsonout_end(json);
	jsonout_object(json, "counters");
	for (i = 0; i < _TPROXY_STAT_MAX; i++) {
		if (kernel->stats[i])
			jsonout_number(json, stat_name(i), kernel->stats[i]);
	}
	jsonout_end(json);
	write_rules(json, kernel, s->now_ns);
	jsonout_end(json);
}

static void write_history(struct jsonout *json, const struct history *history)
{
	unsigned int series;
	size_t i;

	jsonout_object(json, "history");
	for (series = 0; series < _HISTORY_MAX; series++) {
		jsonout_array(json, history_name(series));
		for (i = 0; i < history->n; i++)
			jsonout_number(json, NULL, history_at(history, i)[series]);
		jsonout_end(json);
	}
	jsonout_end(json);
}

void snapshot_write(FILE *out, const struct snapshot *snapshot)
{
	const struct metrics *m = snapshot->metrics;
	struct stats sum = {};
	struct jsonout json;
	uint32_t i;

	for (i = 0; i < 2 * m->n_workers; i++)
		stats_sum(&sum, m->workers[i]);
	jsonout_begin(&json, out);
	jsonout_number(&json, "version", SNAPSHOT_JSON_VERSION);
	write_relay(&json, snapshot);
	write_totals(&json, &sum);
	if (m->kernel)
		write_kernel(&json, snapshot);
	write_history(&json, snapshot->history);
	upstreams_report_list(&json, snapshot->upstreams, snapshot->now_ms);
	if (snapshot->live)
		write_live(&json, snapshot->live);
	jsonout_end(&json);
}
