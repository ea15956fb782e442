// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See metrics.h. Metrics of the relay itself begin with tproxy_relay_, those of the kernel half,
 * which count since the load and for all relays, with tproxy_. The page and dashboards use these
 * names, so a metric keeps its name and meaning; new ones are added.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "conn_row.h"
#include "kernel/counters.h"
#include "metrics_packets.h"
#include "promtext.h"
#include "stat_name.h"
#include "tproxy_abi.h"
#include "util.h"
#include "version.h"

static void single(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
	promtext_head(out, name, type, help);
	fprintf(out, "%s %" PRIu64 "\n", name, value);
}

/* A value with one label. */
static void labelled(FILE *out, const char *name, const char *label, const char *text,
		     uint64_t value)
{
	fprintf(out, "%s{%s=\"", name, label);
	promtext_label(out, text);
	fprintf(out, "\"} %" PRIu64 "\n", value);
}

static void write_seconds(FILE *out, uint64_t ms)
{
	fprintf(out, "%" PRIu64 ".%03u", ms / 1000, (unsigned int)(ms % 1000));
}

static void write_histogram(FILE *out, const char *name, const char *help, enum histogram_id id,
			    const struct stats *sum)
{
	const struct histogram *h = &sum->times[id];
	uint64_t count = 0;
	size_t n, i;
	const uint32_t *bounds = histogram_bounds(id, &n);

	promtext_head(out, name, "histogram", help);
	for (i = 0; i < n; i++) {
		count += stats_get(&h->buckets[i]);
		fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i] / 1000.0, count);
	}
	count += stats_get(&h->buckets[n]);
	fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum ", name, count, name);
	write_seconds(out, stats_get(&h->sum_ms));
	fprintf(out, "\n%s_count %" PRIu64 "\n", name, count);
}

static void write_workers(FILE *out, const struct metrics *m)
{
	uint32_t i;

	promtext_head(
		out, "tproxy_relay_sessions", "gauge",
		"Connections that the relay serves now, by worker; bulk: by its thread for bulk data.");
	for (i = 0; i < 2 * m->n_workers; i++)
		fprintf(out,
			"tproxy_relay_sessions{worker=\"%" PRIu32 "\",thread=\"%s\"} %" PRIu64 "\n",
			i % m->n_workers, i < m->n_workers ? "worker" : "bulk",
			stats_get(&m->workers[i]->sessions));
}

static void write_sessions(FILE *out, const struct stats *sum)
{
	unsigned int i;

	single(out, "tproxy_relay_connections_accepted_total", "counter",
	       "Connections that the relay has accepted.", stats_get(&sum->accepted));
	promtext_head(
		out, "tproxy_relay_connections_ended_total", "counter",
		"Connections of the relay that have ended, by the reason that its log gives.");
	for (i = 0; i < _CLOSE_REASON_MAX; i++)
		labelled(out, "tproxy_relay_connections_ended_total", "reason",
			 close_reason_name(i), stats_get(&sum->closed[i]));
	single(out, "tproxy_relay_honest_connects_begun_total", "counter",
	       "Connects that waited until the relay had reached their destination.",
	       stats_get(&sum->honest[HONEST_BEGUN]));
	promtext_head(out, "tproxy_relay_honest_connects_total", "counter",
		      "Connects that have waited for the relay, by what became of them.");
	for (i = HONEST_BEGUN + 1; i < _HONEST_MAX; i++)
		labelled(out, "tproxy_relay_honest_connects_total", "result", honest_count_name(i),
			 stats_get(&sum->honest[i]));
	promtext_head(out, "tproxy_relay_bytes_total", "counter",
		      "Bytes passed on; up: from the client to the server.");
	labelled(out, "tproxy_relay_bytes_total", "direction", "up", stats_get(&sum->bytes_up));
	labelled(out, "tproxy_relay_bytes_total", "direction", "down", stats_get(&sum->bytes_down));
	single(out, "tproxy_relay_spliced_bytes_total", "counter",
	       "The part of these bytes that went through splice(2).", stats_get(&sum->spliced));
	single(out, "tproxy_relay_accept_pauses_total", "counter",
	       "Pauses in accepting, for lack of descriptors or memory or at the limit.",
	       stats_get(&sum->accept_paused));
	write_histogram(out, "tproxy_relay_connect_seconds",
			"Time from the accept to the connected destination.", HISTOGRAM_CONNECT,
			sum);
	write_histogram(out, "tproxy_relay_first_byte_seconds",
			"Time from the accept to the first byte of the server.",
			HISTOGRAM_FIRST_BYTE, sum);
	write_histogram(out, "tproxy_relay_connection_seconds",
			"Time from the accept to the end of the connection.", HISTOGRAM_LIFE, sum);
}

static void write_relay(FILE *out, const struct metrics *m)
{
	struct stats sum = {};
	uint32_t i;

	for (i = 0; i < 2 * m->n_workers; i++)
		stats_sum(&sum, m->workers[i]);
	write_workers(out, m);
	single(out, "tproxy_relay_sessions_limit", "gauge",
	       "Limit of connections at a time (--max-connections, descriptors).", m->sessions_max);
	write_sessions(out, &sum);
	single(out, "tproxy_relay_registered", "gauge",
	       "1 if new connections of this network namespace are redirected to this relay.",
	       m->registered);
	single(out, "tproxy_relay_worker_stuck", "gauge",
	       "1 if a worker does not answer; no new connections come then.", m->stuck);
	single(out, "tproxy_relay_log_lines_dropped_total", "counter",
	       "Lines of the log that were dropped.", m->lines_dropped);
}

const char *metrics_action_name(unsigned int action)
{
	static const char *const names[] = {
		[TPROXY_RULE_REDIRECT] = "redirect",
		[TPROXY_RULE_DIRECT] = "direct",
		[TPROXY_RULE_OBSERVE] = "observe",
		[TPROXY_RULE_REFUSE] = "refuse",
	};

	return action < ARRAY_SIZE(names) ? names[action] : "unknown";
}

char *metrics_rule_label(const struct counters *kernel, size_t i, char buf[METRICS_RULE_LEN])
{
	const struct tproxy_rule_text *text = &kernel->rules[i].text;

	if (i + 1 == kernel->n_rules)
		snprintf(buf, METRICS_RULE_LEN, "default");
	else if (text->name[0])
		snprintf(buf, METRICS_RULE_LEN, "%s", text->name);
	else
		snprintf(buf, METRICS_RULE_LEN, "line:%" PRIu32, text->line);
	return buf;
}

/*
 * Rules may share a name; a label must be there once. Returns false if a rule before i has its name
 * and action. Otherwise *ret_hits is the sum of all rules with both.
 */
static bool sum_hits(const struct counters *kernel, size_t i, const char *label, uint64_t *ret_hits)
{
	char other[METRICS_RULE_LEN];
	size_t j;

	*ret_hits = 0;
	for (j = 0; j < kernel->n_rules; j++) {
		if (kernel->rules[j].action != kernel->rules[i].action ||
		    strcmp(metrics_rule_label(kernel, j, other), label) != 0)
			continue;
		if (j < i)
			return false;
		*ret_hits += kernel->rules[j].hits;
	}
	return true;
}

static void write_rules(FILE *out, const struct counters *kernel)
{
	char label[METRICS_RULE_LEN];
	uint64_t hits;
	size_t i;

	promtext_head(out, "tproxy_rule_hits_total", "counter",
		      "Connections, or UDP datagrams, that a rule in force has decided.");
	for (i = 0; i < kernel->n_rules; i++) {
		if (!sum_hits(kernel, i, metrics_rule_label(kernel, i, label), &hits))
			continue;
		fputs("tproxy_rule_hits_total{rule=\"", out);
		promtext_label(out, label);
		fprintf(out, "\",action=\"%s\"} %" PRIu64 "\n",
			metrics_action_name(kernel->rules[i].action), hits);
	}
}

/* Writes the counters that count a connect(), or those that do not. */
static void write_stats(FILE *out, const char *name, const char *label,
			const struct counters *kernel, bool connects)
{
	unsigned int i;

	for (i = 0; i < _TPROXY_STAT_MAX; i++) {
		if (i == TPROXY_STAT_REFUSED || i == TPROXY_STAT_OBSERVE_FULL ||
		    i == TPROXY_STAT_EVENTS_LOST || (verdict_of(i) != VERDICT_NONE) != connects)
			continue;
		labelled(out, name, label, stat_name(i), kernel->stats[i]);
	}
}

static void write_kernel(FILE *out, const struct metrics *m)
{
	const struct counters *kernel = m->kernel;
	unsigned int i;

	promtext_head(out, "tproxy_connections_total", "counter",
		      "TCP connect() calls in scope since the load, by what became of them.");
	for (i = 0; i < _CONN_VERDICT_MAX; i++)
		labelled(out, "tproxy_connections_total", "verdict", conn_verdict_name(i),
			 m->verdicts.sums[i]);
	promtext_head(out, "tproxy_connect_reasons_total", "counter",
		      "The same calls by reason, see STATUS in tproxy-load(8).");
	write_stats(out, "tproxy_connect_reasons_total", "reason", kernel, true);
	promtext_head(out, "tproxy_kernel_events_total", "counter",
		      "Other events in the kernel half, see STATUS in tproxy-load(8).");
	write_stats(out, "tproxy_kernel_events_total", "event", kernel, false);
	promtext_head(
		out, "tproxy_events_lost_total", "counter",
		"Observed connections whose end is not reported, by the counter that says why.");
	labelled(out, "tproxy_events_lost_total", "reason", stat_name(TPROXY_STAT_OBSERVE_FULL),
		 kernel->stats[TPROXY_STAT_OBSERVE_FULL]);
	labelled(out, "tproxy_events_lost_total", "reason", stat_name(TPROXY_STAT_EVENTS_LOST),
		 kernel->stats[TPROXY_STAT_EVENTS_LOST]);
	write_rules(out, kernel);
	single(out, "tproxy_rules_generation", "gauge",
	       "Number of the load of rules in force; 0: none were loaded.", kernel->generation);
	single(out, "tproxy_fail_closed", "gauge",
	       "1 if connections that cannot be redirected are refused.",
	       kernel->policy_flags & TPROXY_FAIL_CLOSED ? 1 : 0);
}

static void write_process(FILE *out, const struct metrics *m)
{
	promtext_head(out, "process_cpu_seconds_total", "counter", "CPU time of the relay.");
	fprintf(out, "process_cpu_seconds_total %.3f\n", m->cpu_s);
	single(out, "process_resident_memory_bytes", "gauge", "Resident memory of the relay.",
	       m->resident_bytes);
	promtext_head(out, "process_start_time_seconds", "gauge", "Start of the relay, Unix time.");
	fprintf(out, "process_start_time_seconds %.3f\n", m->started_s);
}

void metrics_write(FILE *out, const struct metrics *m)
{
	promtext_head(out, "tproxy_build_info", "gauge",
		      "Version of the relay and of the pinned maps.");
	fputs("tproxy_build_info{version=\"", out);
	promtext_label(out, TPROXY_VERSION);
	fprintf(out, "\",abi=\"%d\"} 1\n", TPROXY_ABI_VERSION);
	write_process(out, m);
	write_relay(out, m);
	single(out, "tproxy_loaded", "gauge",
	       "1 if the pinned maps can be read; without them the metrics below are missing.",
	       m->kernel != NULL);
	if (m->kernel)
		write_kernel(out, m);
	if (m->packets)
		metrics_write_packets(out, m->packets);
}
