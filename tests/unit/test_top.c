// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Tests the model of tproxyctl top with samples that are made here: rates, ended connections,
 * groups, order, filter; and its table: columns, cells, rows.
 */
#include "ctl/top_model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "ctl/top_delay.h"
#include "ctl/top_table.h"
#include "host/address.h"
#include "host/name_cache.h"
#include "unit.h"
#include "util.h"

static const char *user_name(void *data, uint32_t uid)
{
	return uid == 0 ? "root" : uid == 1000 ? "alice" : "1001";
}

static const char *cgroup_name(void *data, const struct conn_row *conn)
{
	return conn->cgroup_id == 1 ? "/sys/fs/cgroup/web" : "/sys/fs/cgroup/batch";
}

static const struct top_names names = {
	.user = user_name,
	.cgroup = cgroup_name,
};

static struct top_model *model;
static const struct top_line *lines;
static size_t n;
static struct top_line sum;

static int set_up(void **state)
{
	model = top_model_create(&names);
	return model ? 0 : -1;
}

static int tear_down(void **state)
{
	top_model_destroy(model);
	return 0;
}

static struct tproxy_endpoint endpoint(const char *address, uint16_t port)
{
	struct tproxy_endpoint ep = { .port = port };
	struct in_addr in;

	assert_int_equal(inet_pton(AF_INET, address, &in), 1);
	address_map4(ep.addr, &in);
	return ep;
}

/* A connection of curl by root to 192.0.2.1:443. */
static struct conn_row curl(uint64_t id, uint64_t tx, uint64_t rx)
{
	return (struct conn_row){
		.id = id,
		.cgroup_id = 1,
		.age_ms = 5000,
		.tx_bytes = tx,
		.rx_bytes = rx,
		.pid = 100 + (uint32_t)id,
		.src = endpoint("198.51.100.1", (uint16_t)(40000 + id)),
		.dst = endpoint("192.0.2.1", 443),
		.comm = "curl",
		.state = TCP_ESTABLISHED,
	};
}

static struct conn_row git(uint64_t id, uint64_t tx, uint64_t rx)
{
	struct conn_row conn = curl(id, tx, rx);

	conn.cgroup_id = 2;
	conn.uid = 1000;
	conn.dst = endpoint("192.0.2.2", 22);
	strcpy(conn.comm, "git");
	strcpy(conn.rule, "databases");
	conn.verdict = CONN_OBSERVED;
	return conn;
}

/* Gives a sample at @now_ms; the list ends with id 0. */
static void sample(uint64_t now_ms, const struct conn_row *conns)
{
	top_model_begin(model);
	for (; conns->id; conns++)
		assert_int_equal(top_model_add(model, conns), 0);
	assert_int_equal(top_model_end(model, now_ms), 0);
}

#define sample(now_ms, ...) sample(now_ms, (struct conn_row[]){ __VA_ARGS__, {} })

static void view(struct top_view v)
{
	assert_int_equal(top_model_view(model, &v, &lines, &n, &sum), 0);
}

#define view(...) view((struct top_view){ __VA_ARGS__ })

static double per_second(uint64_t count)
{
	return top_model_per_second(model, count);
}

static void test_rates(void **state)
{
	sample(1000, curl(1, 10, 20));
	view(.by = TOP_BY_CONNECTION);
	assert_int_equal(top_model_interval_ms(model), 0);
	assert_true(per_second(5) == 0);
	assert_int_equal(n, 1);
	assert_int_equal(lines[0].total.tx, 10);
	assert_int_equal(lines[0].opened, 0);

	/* Given out of order, and twice. */
	sample(3000, curl(2, 7, 0), curl(1, 1010, 20), curl(2, 7, 0));
	view(.by = TOP_BY_CONNECTION);
	assert_int_equal(top_model_interval_ms(model), 2000);
	assert_int_equal(n, 2);
	assert_int_equal(lines[0].conn->id, 1);
	assert_int_equal(lines[0].recent.tx, 1000);
	assert_int_equal(lines[0].recent.rx, 0);
	assert_true(per_second(lines[0].recent.tx) == 500);
	assert_int_equal(sum.connections, 2);
}

/* A new connection counts from its start if that lies in the interval. */
static void test_new(void **state)
{
	struct conn_row young = curl(2, 300, 400), old = curl(3, 500, 600);

	young.age_ms = 900;
	old.age_ms = 1100;
	sample(1000, curl(1, 0, 0));
	sample(2000, curl(1, 0, 0), young, old);
	view(.by = TOP_BY_CONNECTION, .sort = TOP_ID, .reversed = true);
	assert_int_equal(n, 3);
	assert_int_equal(lines[1].opened, 1);
	assert_int_equal(lines[1].recent.tx, 300);
	assert_int_equal(lines[2].opened, 0);
	assert_int_equal(lines[2].recent.rx, 0);
	assert_int_equal(lines[2].total.rx, 600);
	assert_int_equal(sum.opened, 1);
}

/* A counter that goes back, as with another source, is no traffic. */
static void test_backwards(void **state)
{
	sample(1000, curl(1, 500, 500));
	sample(2000, curl(1, 0, 600));
	view(.by = TOP_BY_CONNECTION);
	assert_int_equal(lines[0].recent.tx, 0);
	assert_int_equal(lines[0].recent.rx, 100);
}

static void test_ended(void **state)
{
	sample(1000, curl(1, 100, 10), curl(2, 50, 5), git(3, 1, 1));
	sample(2000, curl(2, 60, 5));
	view(.by = TOP_BY_CONNECTION);
	assert_int_equal(n, 1);
	assert_int_equal(sum.connections, 1);
	assert_int_equal(sum.total.tx, 161);

	view(.by = TOP_BY_PROGRAM, .sort = TOP_COMMAND);
	assert_int_equal(n, 2);
	assert_int_equal(lines[0].connections, 1);
	assert_int_equal(lines[0].total.tx, 160);
	assert_int_equal(lines[0].recent.tx, 10);
	assert_string_equal(lines[1].conn->comm, "git");
	assert_int_equal(lines[1].connections, 0);

	/* A second one ends: it is added to the first one. No interval is counted twice. */
	sample(3000, git(4, 9, 9));
	sample(4000, git(4, 9, 9));
	view(.by = TOP_BY_PROGRAM, .sort = TOP_COMMAND);
	assert_int_equal(lines[0].total.tx, 160);
	assert_int_equal(lines[0].total.rx, 15);
	assert_int_equal(lines[0].recent.tx, 0);
	assert_int_equal(lines[1].connections, 1);
	assert_int_equal(lines[1].total.tx, 10);
}

/* What has transferred most stays if the ended ones are too many. */
static void test_many_ended(void **state)
{
	const size_t many = TOP_ENDED_MAX + 10;
	size_t i;

	top_model_begin(model);
	for (i = 0; i < many; i++) {
		struct conn_row conn = curl(i + 1, i, 0);

		conn.dst.port = (uint16_t)(i & 0xffff);
		conn.uid = (uint32_t)(i >> 16);
		assert_int_equal(top_model_add(model, &conn), 0);
	}
	assert_int_equal(top_model_end(model, 1000), 0);
	sample(2000, git(many + 1, 0, 0));
	view(.by = TOP_BY_DESTINATION, .sort = TOP_TX, .reversed = true);
	assert_int_equal(n, TOP_ENDED_MAX + 1);
	assert_int_equal(lines[0].total.tx, 0);
	assert_int_equal(lines[1].total.tx, 10);
}

static void test_groups(void **state)
{
	struct conn_row other = curl(4, 0, 0);

	other.dst = endpoint("192.0.2.2", 22);
	other.uid = 1001;
	sample(1000, curl(1, 0, 0), curl(2, 0, 0), git(3, 0, 0), other);
	sample(2000, curl(1, 1, 0), curl(2, 2, 0), git(3, 30, 0), other);

	view(.by = TOP_BY_PROGRAM);
	assert_int_equal(n, 2);
	assert_string_equal(lines[0].conn->comm, "git");
	assert_int_equal(lines[1].connections, 3);
	assert_int_equal(lines[1].recent.tx, 3);
	view(.by = TOP_BY_DESTINATION, .sort = TOP_DESTINATION);
	assert_int_equal(n, 2);
	assert_int_equal(lines[0].conn->dst.port, 443);
	assert_int_equal(lines[1].connections, 2);
	view(.by = TOP_BY_CGROUP, .sort = TOP_CGROUP);
	assert_int_equal(n, 2);
	assert_int_equal(lines[0].conn->cgroup_id, 2);
	view(.by = TOP_BY_USER, .sort = TOP_USER);
	assert_int_equal(n, 3);
	assert_int_equal(lines[0].conn->uid, 1001);
	assert_int_equal(lines[1].conn->uid, 1000);
	assert_int_equal(lines[2].connections, 2);
	assert_int_equal(sum.connections, 4);
}

/* Each column sorts, and reversed gives the other end first. */
static void test_sort(void **state)
{
	struct conn_row first = curl(1, 900, 0), second = git(2, 0, 800);
	enum top_column column;

	first.rtt_us = 100;
	first.state = TCP_SYN_SENT;
	snprintf(second.upstream, sizeof(second.upstream), "corp");
	/* The ages in milliseconds may be equal. */
	first.started_ns = 2000;
	second.started_ns = 1000;
	sample(1000, first, second);
	first.tx_bytes += 5;
	second.rx_bytes += 50;
	sample(2000, first, second);
	for (column = 0; column < _TOP_COLUMN_MAX; column++) {
		const struct conn_row *at_top;

		if (!top_table_has(TOP_BY_CONNECTION, column))
			continue;
		view(.by = TOP_BY_CONNECTION, .sort = column);
		at_top = lines[0].conn;
		view(.by = TOP_BY_CONNECTION, .sort = column, .reversed = true);
		assert_ptr_not_equal(at_top, lines[0].conn);
	}
	view(.by = TOP_BY_CONNECTION, .sort = TOP_RATE);
	assert_int_equal(lines[0].conn->id, 2);
	view(.by = TOP_BY_CONNECTION, .sort = TOP_TX_RATE);
	assert_int_equal(lines[0].conn->id, 1);
	view(.by = TOP_BY_CONNECTION, .sort = TOP_COMMAND);
	assert_int_equal(lines[0].conn->id, 1);
	view(.by = TOP_BY_CONNECTION, .sort = TOP_AGE);
	assert_int_equal(lines[0].conn->id, 2);
}

static void assert_found(const char *text, size_t found)
{
	struct top_view v = { .by = TOP_BY_CONNECTION };

	snprintf(v.text, sizeof(v.text), "%s", text);
	(view)(v);
	assert_int_equal(n, found);
	assert_int_equal(sum.connections, found);
}

static void test_filter(void **state)
{
	struct conn_row odd = curl(0xabc, 0, 0);

	strcpy(odd.comm, "caf\xc3\xa9");
	sample(1000, curl(1, 0, 0), git(2, 0, 0), odd);
	assert_found("", 3);
	assert_found("CURL", 1);
	assert_found("192.0.2.1:443", 2);
	assert_found("/web", 2);
	assert_found("alice", 1);
	assert_found("databases", 1);
	assert_found("observed", 1);
	assert_found("\\xc3", 1);
	assert_found("abc", 1);
	assert_found("102", 1);
	assert_found("no such text", 0);

	view(.by = TOP_BY_CONNECTION, .user = "alice");
	assert_int_equal(n, 1);
	view(.by = TOP_BY_CONNECTION, .user = "0");
	assert_int_equal(n, 2);
	view(.by = TOP_BY_PROGRAM, .text = "git", .user = "root");
	assert_int_equal(n, 0);
}

static void test_busy_only(void **state)
{
	sample(1000, curl(1, 0, 0), git(2, 0, 0));
	sample(2000, curl(1, 1, 0), git(2, 0, 0));
	view(.by = TOP_BY_PROGRAM, .busy_only = true);
	assert_int_equal(n, 1);
	assert_string_equal(lines[0].conn->comm, "curl");
	assert_int_equal(sum.connections, 2);
}

static void add_traffic(uint64_t cgroup_id, uint64_t line_id, unsigned int steps, uint64_t packets)
{
	const struct top_amount amount = { .tx = 100 * packets,
					   .rx = 10 * packets,
					   .tx_packets = packets,
					   .rx_packets = packets };

	assert_int_equal(top_model_add_traffic(model, cgroup_id, line_id, steps, &amount), 0);
}

static void sample_traffic(uint64_t now_ms, uint64_t packets, uint64_t packets_below)
{
	top_model_begin(model);
	add_traffic(1, 1, 0, packets);
	if (packets_below) {
		add_traffic(2, 2, 0, packets_below);
		add_traffic(2, 1, 1, packets_below);
	}
	assert_int_equal(top_model_end(model, now_ms), 0);
}

/* Cgroup 2 is in cgroup 1, which has sockets of its own. The sum has each packet once. */
static void test_traffic(void **state)
{
	struct top_table table = {
		.model = model, .names = &names, .by = TOP_BY_TRAFFIC, .has_bytes = true
	};
	char row[TOP_ROW_LEN];

	sample_traffic(1000, 5, 7);
	sample_traffic(3000, 6, 27);
	view(.by = TOP_BY_TRAFFIC);
	assert_int_equal(n, 2);
	assert_int_equal(lines[0].conn->cgroup_id, 1);
	assert_int_equal(lines[0].total.tx, 3300);
	assert_int_equal(lines[0].recent.rx_packets, 21);
	assert_int_equal(lines[1].total.rx_packets, 27);
	assert_int_equal(sum.total.tx_packets, 33);
	assert_int_equal(sum.recent.rx, 210);
	assert_non_null(strstr(top_table_sum(&table, &sum, row), "33 packets"));
	top_table_measure(&table, lines, n);
	assert_non_null(strstr(top_table_row(&table, &lines[1], row), "/sys/fs/cgroup/batch"));

	/* A cgroup that was removed keeps its totals, and those of the cgroups above it. */
	sample_traffic(4000, 6, 0);
	view(.by = TOP_BY_TRAFFIC, .sort = TOP_TX_PACKETS);
	assert_int_equal(n, 2);
	assert_int_equal(lines[0].total.tx_packets, 33);
	assert_int_equal(lines[1].total.tx_packets, 27);
	assert_int_equal(sum.total.tx_packets, 33);

	/* Only the path is searched, not what a connection would have. */
	view(.by = TOP_BY_TRAFFIC, .text = "batch");
	assert_int_equal(n, 1);
	assert_int_equal(sum.total.tx_packets, 27);
	view(.by = TOP_BY_TRAFFIC, .text = "redirected");
	assert_int_equal(n, 0);
}

static void test_empty(void **state)
{
	top_model_begin(model);
	assert_int_equal(top_model_end(model, 5), 0);
	top_model_begin(model);
	assert_int_equal(top_model_end(model, 5), 0);
	assert_int_equal(top_model_interval_ms(model), 1);
	view(.by = TOP_BY_USER);
	assert_int_equal(n, 0);
	assert_int_equal(sum.connections, 0);
}

static void assert_delay(const char *text, int result, uint64_t ms)
{
	uint64_t delay = 7;

	assert_int_equal(top_parse_delay(text, &delay), result);
	assert_int_equal(delay, result ? 7 : ms);
}

static void test_delay(void **state)
{
	assert_delay("2", 0, 2000);
	assert_delay("0.5", 0, 500);
	assert_delay("1.2345", 0, 1234);
	assert_delay("0.1", 0, 100);
	assert_delay("500ms", 0, 500);
	assert_delay("1m", 0, 60000);
	assert_delay("3600", 0, 3600000);
	assert_delay("3600.1", -ERANGE, 0);
	assert_delay("0.0999", -ERANGE, 0);
	assert_delay("0", -ERANGE, 0);
	assert_delay("99999999999999999.0", -ERANGE, 0);
	assert_delay("", -EINVAL, 0);
	assert_delay(".", -EINVAL, 0);
	assert_delay(".5", -EINVAL, 0);
	assert_delay("1.", -EINVAL, 0);
	assert_delay("1.5s", -EINVAL, 0);
	assert_delay("-1", -EINVAL, 0);
	assert_delay("x", -EINVAL, 0);
}

static void test_columns(void **state)
{
	enum top_column column = TOP_RATE;
	size_t count, i;
	enum top_by by;

	for (by = 0; by < _TOP_BY_MAX; by++) {
		const enum top_column *columns = top_table_columns(by, &count);

		assert_true(top_table_has(by, TOP_RATE));
		assert_int_equal(top_table_move(by, TOP_RATE, -1), TOP_RATE);
		for (i = 0, column = TOP_RATE; i < count; i++) {
			column = top_table_move(by, column, 1);
			assert_int_equal(column, columns[i]);
			assert_non_null(top_column_names[column]);
			assert_non_null(top_table_title(column));
		}
		assert_int_equal(top_table_move(by, column, 1), column);
	}
	assert_false(top_table_has(TOP_BY_USER, TOP_PID));
	assert_int_equal(top_table_move(TOP_BY_USER, TOP_PID, 1), TOP_USER);
}

static void test_rows(void **state)
{
	struct top_table table = { .names = &names, .has_bytes = true, .by = TOP_BY_PROGRAM };
	char row[TOP_ROW_LEN];

	table.model = model;
	sample(1000, curl(1, 1000, 0), git(2, 0, 5));
	view(.by = TOP_BY_PROGRAM, .sort = TOP_COMMAND);
	top_table_measure(&table, lines, n);
	assert_string_equal(top_table_head(&table, row),
			    "COMMAND          CONNS   NEW/s     TX/s     RX/s       TX       RX");
	assert_string_equal(top_table_row(&table, &lines[0], row),
			    "curl                 1       -        -        -   1.0 kB      0 B");
	sample(3000, curl(1, 5000, 0), git(2, 0, 5));
	view(.by = TOP_BY_PROGRAM, .sort = TOP_COMMAND);
	top_table_measure(&table, lines, n);
	assert_string_equal(top_table_row(&table, &lines[0], row),
			    "curl                 1     0.0   2.0 kB      0 B   5.0 kB      0 B");
	assert_string_equal(
		top_table_sum(&table, &sum, row),
		"2 connections, 0.0 new/s; TX 2.0 kB/s, RX 0 B/s; total TX 5.0 kB, RX 5 B");
	/* A source without counters. */
	table.has_bytes = false;
	assert_string_equal(top_table_sum(&table, &sum, row), "2 connections, 0.0 new/s");
	assert_string_equal(top_table_row(&table, &lines[0], row),
			    "curl                 1     0.0        -        -        -        -");
}

/* A name that takes more than its column widens it, and no name overruns the row. */
static void test_wide(void **state)
{
	struct top_table table = { .names = &names, .by = TOP_BY_CONNECTION };
	struct conn_row odd = curl(1, 0, 0);
	char row[TOP_ROW_LEN];

	table.model = model;
	memset(odd.comm, 0xff, TPROXY_COMM_LEN);
	sample(1000, odd, git(2, 0, 0));
	view(.by = TOP_BY_CONNECTION, .sort = TOP_ID);
	top_table_measure(&table, lines, n);
	assert_int_equal(table.width[TOP_COMMAND], 4 * TPROXY_COMM_LEN);
	top_table_row(&table, &lines[1], row);
	assert_non_null(strstr(row, "\\xff\\xff"));
	table.width[TOP_COMMAND] = 3 * TOP_ROW_LEN;
	assert_true(strlen(top_table_row(&table, &lines[0], row)) < TOP_ROW_LEN);
}

static unsigned int lookups;

static char *look_up(uint64_t id, const void *hint)
{
	char text[32];

	lookups++;
	snprintf(text, sizeof(text), "name %llu", (unsigned long long)id);
	return strdup(text);
}

static void test_name_cache(void **state)
{
	_cleanup_(name_cache_finish) struct name_cache cache = { .lookup = look_up };
	uint64_t id;
	int round;

	lookups = 0;
	for (round = 0; round < 2; round++) {
		for (id = 0; id < NAME_CACHE_MAX; id++) {
			char text[32];

			snprintf(text, sizeof(text), "name %llu", (unsigned long long)id << 32);
			assert_string_equal(name_cache_get(&cache, id << 32, NULL), text);
		}
		name_cache_trim(&cache);
	}
	assert_int_equal(lookups, NAME_CACHE_MAX);
	name_cache_get(&cache, 1, NULL);
	name_cache_trim(&cache);
	assert_int_equal(cache.n, 0);
	assert_string_equal(name_cache_get(&cache, 1, NULL), "name 1");
}

int main(void)
{
#define in_model(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		in_model(test_rates),
		in_model(test_new),
		in_model(test_backwards),
		in_model(test_ended),
		in_model(test_many_ended),
		in_model(test_groups),
		in_model(test_sort),
		in_model(test_filter),
		in_model(test_busy_only),
		in_model(test_traffic),
		in_model(test_empty),
		in_model(test_rows),
		in_model(test_wide),
		cmocka_unit_test(test_delay),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_name_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
