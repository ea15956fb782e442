// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests the histograms, the sums of verdicts, and the text of the metrics. */
#include "report/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/counters.h"
#include "kernel/packets.h"
#include "stat_name.h"
#include "unit.h"
#include "util.h"

static uint64_t bucket(const struct histogram *h, size_t i)
{
	return stats_get(&h->buckets[i]);
}

/* A bound belongs to its bucket: le means less or equal. */
static void test_buckets(void **state)
{
	struct histogram h[_HISTOGRAM_MAX] = {};
	size_t n, i;
	const uint32_t *bounds = histogram_bounds(HISTOGRAM_CONNECT, &n);

	assert_true(n <= HISTOGRAM_BOUNDS_MAX);
	for (i = 0; i < n; i++) {
		histogram_add(h, HISTOGRAM_CONNECT, bounds[i]);
		histogram_add(h, HISTOGRAM_CONNECT, bounds[i] + 1);
	}
	assert_int_equal(bucket(&h[HISTOGRAM_CONNECT], 0), 1);
	for (i = 1; i < n; i++)
		assert_int_equal(bucket(&h[HISTOGRAM_CONNECT], i), 2);
	assert_int_equal(bucket(&h[HISTOGRAM_CONNECT], n), 1);
	assert_int_equal(bucket(&h[HISTOGRAM_LIFE], 0), 0);
	histogram_add(h, HISTOGRAM_LIFE, 0);
	histogram_add(h, HISTOGRAM_LIFE, UINT64_MAX / 2);
	histogram_bounds(HISTOGRAM_LIFE, &n);
	assert_int_equal(bucket(&h[HISTOGRAM_LIFE], 0), 1);
	assert_int_equal(bucket(&h[HISTOGRAM_LIFE], n), 1);
}

static void test_bounds_ascend(void **state)
{
	size_t id, n, i;

	for (id = 0; id < _HISTOGRAM_MAX; id++) {
		const uint32_t *bounds = histogram_bounds(id, &n);

		for (i = 1; i < n; i++)
			assert_true(bounds[i] > bounds[i - 1]);
	}
}

static void test_sum(void **state)
{
	struct stats one = {}, two = {}, sum = {};

	histogram_add(one.times, HISTOGRAM_LIFE, 10);
	histogram_add(two.times, HISTOGRAM_LIFE, 10);
	histogram_add(two.times, HISTOGRAM_LIFE, 11);
	histogram_add(two.times, HISTOGRAM_CONNECT, UINT32_MAX);
	stats_add(&one.sessions, 2);
	stats_add(&one.sessions, (uint64_t)-1);
	stats_sum(&sum, &one);
	stats_sum(&sum, &two);
	assert_int_equal(bucket(&sum.times[HISTOGRAM_LIFE], 0), 2);
	assert_int_equal(bucket(&sum.times[HISTOGRAM_LIFE], 1), 1);
	assert_int_equal(stats_get(&sum.times[HISTOGRAM_LIFE].sum_ms), 31);
	assert_int_equal(bucket(&sum.times[HISTOGRAM_CONNECT], HISTOGRAM_BOUNDS_MAX), 1);
	assert_int_equal(stats_get(&sum.sessions), 1);
}

static void test_verdicts(void **state)
{
	uint64_t stats[_TPROXY_STAT_MAX] = {};
	struct verdicts v = {};

	stats[TPROXY_STAT_REDIRECTED] = 1;
	stats[TPROXY_STAT_ABORTED] = 1; /* one of those redirected */
	stats[TPROXY_STAT_RULE_DIRECT] = 2;
	stats[TPROXY_STAT_RULE_OBSERVE] = 3;
	stats[TPROXY_STAT_OBSERVE_FULL] = 1; /* one of those observed */
	stats[TPROXY_STAT_RULE_REFUSED] = 4;
	stats[TPROXY_STAT_NO_RELAY] = 10;
	stats[TPROXY_STAT_REFUSED] = 7;
	verdicts_update(&v, 1, stats);
	assert_int_equal(v.sums[CONN_REDIRECTED], 1);
	assert_int_equal(v.sums[CONN_DIRECT], 2 + 3);
	assert_int_equal(v.sums[CONN_OBSERVED], 3);
	assert_int_equal(v.sums[CONN_REFUSED], 4 + 7);

	/* A refusal was counted whose reason was read before: nothing decreases. */
	stats[TPROXY_STAT_REFUSED] = 8;
	verdicts_update(&v, 1, stats);
	assert_int_equal(v.sums[CONN_DIRECT], 5);
	assert_int_equal(v.sums[CONN_REFUSED], 12);
	stats[TPROXY_STAT_REFUSED] = 11;
	verdicts_update(&v, 1, stats);
	assert_int_equal(v.sums[CONN_DIRECT], 5);

	/* Other programs were loaded. */
	memset(stats, 0, sizeof(stats));
	verdicts_update(&v, 2, stats);
	assert_int_equal(v.sums[CONN_DIRECT], 0);
}

/* Each counter is shown once: as a reason, as an event, or as a loss. */
static void test_every_counter_has_a_place(void **state)
{
	unsigned int i;

	for (i = 0; i < _TPROXY_STAT_MAX; i++)
		assert_true(verdict_of(i) <= VERDICT_NONE);
	assert_int_equal(verdict_of(_TPROXY_STAT_MAX), VERDICT_NONE);
}

static char *written(const struct metrics *m)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	metrics_write(out, m);
	fclose(out);
	return text;
}

static void assert_line(const char *text, const char *line)
{
	char whole[256];

	snprintf(whole, sizeof(whole), "\n%s\n", line);
	if (!strstr(text, whole))
		fail_msg("no line '%s' in:\n%s", line, text);
}

static struct counted_rule rules[] = {
	{ .action = TPROXY_RULE_OBSERVE, .hits = 1, .text = { .name = "a\"b\\c\nd", .line = 1 } },
	{ .action = TPROXY_RULE_REFUSE, .hits = 2, .text = { .line = 7 } },
	{ .action = TPROXY_RULE_DIRECT, .hits = 3, .text = { .name = "default" } },
	{ .action = TPROXY_RULE_DIRECT, .hits = 4 },
};

static void test_text(void **state)
{
	struct counters kernel = { .rules = rules, .n_rules = ARRAY_SIZE(rules), .generation = 5 };
	struct stats worker = {}, bulk = {};
	const struct stats *workers[] = { &worker, &bulk };
	struct metrics m = {
		.workers = workers,
		.n_workers = 1,
		.kernel = &kernel,
		.started_s = 1.5,
	};
	_cleanup_free_ char *text = NULL;

	stats_add(&worker.bytes_up, UINT64_C(1) << 63);
	stats_add(&bulk.bytes_up, 1);
	stats_add(&bulk.sessions, 3);
	histogram_add(worker.times, HISTOGRAM_LIFE, 61001);
	kernel.stats[TPROXY_STAT_EVENTS_LOST] = 9;
	text = written(&m);
	assert_line(text, "tproxy_relay_bytes_total{direction=\"up\"} 9223372036854775809");
	assert_line(text, "tproxy_relay_sessions{worker=\"0\",thread=\"bulk\"} 3");
	assert_line(text, "tproxy_relay_connection_seconds_bucket{le=\"60\"} 0");
	assert_line(text, "tproxy_relay_connection_seconds_bucket{le=\"300\"} 1");
	assert_line(text, "tproxy_relay_connection_seconds_bucket{le=\"86400\"} 1");
	assert_line(text, "tproxy_relay_connection_seconds_bucket{le=\"+Inf\"} 1");
	assert_line(text, "tproxy_relay_connection_seconds_sum 61.001");
	assert_line(text, "tproxy_relay_connect_seconds_bucket{le=\"0.005\"} 0");
	assert_line(text, "tproxy_events_lost_total{reason=\"events_lost\"} 9");
	assert_line(text, "tproxy_rule_hits_total{rule=\"a\\\"b\\\\c\\nd\",action=\"observe\"} 1");
	assert_line(text, "tproxy_rule_hits_total{rule=\"line:7\",action=\"refuse\"} 2");
	assert_line(text, "tproxy_rule_hits_total{rule=\"default\",action=\"direct\"} 7");
	assert_line(text, "tproxy_rules_generation 5");
	assert_line(text, "process_start_time_seconds 1.500");
	assert_null(strstr(text, "tproxy_connect_reasons_total{reason=\"refused\"}"));
}

static void test_packets(void **state)
{
	struct packets_target targets[] = {
		{ .path = (char *)"/a\"b", .sum = { .packets_in = 1, .bytes_out = 4 } },
		{ .path = (char *)"/c", .relay = true, .sum = { .packets_out = 3 } },
	};
	struct packets packets = {
		.n_entries = { [TPROXY_BLOCK] = 7, [TPROXY_ALLOW] = 2 },
		.places[TPROXY_PLACE_XDP] = { .seen = 9, .dropped = 3, .invalid = 1 },
		.counts_traffic = true,
		.targets = targets,
		.n_targets = ARRAY_SIZE(targets),
	};
	struct stats worker = {}, bulk = {};
	const struct stats *workers[] = { &worker, &bulk };
	struct metrics m = { .workers = workers, .n_workers = 1, .packets = &packets };
	_cleanup_free_ char *text = written(&m);

	assert_line(text, "tproxy_block_entries{kind=\"block\"} 7");
	assert_line(text, "tproxy_block_seen_total{place=\"xdp\"} 9");
	assert_line(text, "tproxy_block_dropped_total{place=\"xdp\"} 3");
	assert_line(text, "tproxy_block_invalid_total{place=\"xdp\"} 1");
	assert_line(text, "tproxy_block_dropped_total{place=\"connect\"} 0");
	assert_line(text, "tproxy_traffic_counted 1");
	assert_line(text, "tproxy_traffic_packets_total{cgroup=\"/a\\\"b\",role=\"scope\","
			  "direction=\"in\"} 1");
	assert_line(text, "tproxy_traffic_bytes_total{cgroup=\"/a\\\"b\",role=\"scope\","
			  "direction=\"out\"} 4");
	assert_line(text, "tproxy_traffic_packets_total{cgroup=\"/c\",role=\"relay\","
			  "direction=\"out\"} 3");
}

static void test_text_without_the_maps(void **state)
{
	struct stats worker = {}, bulk = {};
	const struct stats *workers[] = { &worker, &bulk };
	struct metrics m = { .workers = workers, .n_workers = 1 };
	_cleanup_free_ char *text = written(&m);

	assert_line(text, "tproxy_loaded 0");
	assert_null(strstr(text, "tproxy_connections_total"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_bounds_ascend),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_every_counter_has_a_place),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_packets),
		cmocka_unit_test(test_text_without_the_maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
