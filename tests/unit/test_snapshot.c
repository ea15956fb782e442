// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Tests what the page is made from: the list of connections, sums, rates, JSON. */
#include "report/snapshot.h"

#include <arpa/inet.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/counters.h"
#include "kernel/live.h"
#include "objects.h"
#include "report/history.h"
#include "report/jsonout.h"
#include "report/metrics.h"
#include "unit.h"
#include "util.h"

static void test_history(void **state)
{
	struct history h = {};
	uint64_t counters[_HISTORY_MAX] = { 100 };
	size_t i;

	/* The first sample has no rate. */
	history_add(&h, counters);
	assert_int_equal(h.n, 0);
	for (i = 1; i <= HISTORY_SECONDS + 5; i++) {
		counters[0] += i;
		history_add(&h, counters);
	}
	assert_int_equal(h.n, HISTORY_SECONDS);
	assert_int_equal(history_at(&h, 0)[0], 6);
	assert_int_equal(history_at(&h, HISTORY_SECONDS - 1)[0], HISTORY_SECONDS + 5);
	/* The counters start again. */
	counters[0] = 3;
	history_add(&h, counters);
	assert_int_equal(history_at(&h, HISTORY_SECONDS - 1)[0], 0);
}

static void test_json(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct jsonout json;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	jsonout_begin(&json, out);
	jsonout_text(&json, "text", "a\"b\\<script>&\n\xff");
	jsonout_text(&json, "none", NULL);
	jsonout_number(&json, "number", UINT64_MAX);
	jsonout_array(&json, "list");
	jsonout_number(&json, NULL, 1);
	jsonout_object(&json, NULL);
	jsonout_bool(&json, "yes", true);
	jsonout_end(&json);
	jsonout_end(&json);
	jsonout_object(&json, "empty");
	jsonout_end(&json);
	jsonout_end(&json);
	fclose(out);
	assert_string_equal(text,
			    "{\"text\":\"a\\\"b\\\\\\u003cscript\\u003e\\u0026\\\\x0a\\\\xff\","
			    "\"none\":null,\"number\":18446744073709551615,\"list\":[1,{\"yes\":"
			    "true}],\"empty\":{}}\n");
}

/* --- the kernel's list, as a file */

static char directory[] = "/tmp/tproxy-unit-XXXXXX";

static void write_list(const char *text)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[128];

	snprintf(path, sizeof(path), "%s/" PINNED_LIST, directory);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
}

static const char list[] =
	CONN_ROW_HEADER "\n"
			"1a 7 0 5 1 redirected established 127.0.0.1:5 192.0.2.1:80 10 20 300 "
			"4000 9 web app.service curl\n"
			"no connection\n"
			"1b 8 0 5 1 redirected established 127.0.0.1:6 192.0.2.1:80 1 2 300 "
			"4000 9 - - git\n"
			"1c 9 0 5 1 observed established 192.0.2.9:7 192.0.2.2:443 100 200 300 "
			"4000 - line:3 - curl\n";

static void test_list(void **state)
{
	struct live live;

	write_list(list);
	assert_int_equal(live_read(directory, 1, 10, &live), 0);
	assert_int_equal(live.n, 3);
	assert_false(live.more);
	assert_int_equal(live.rows[0].id, 0x1a);
	assert_string_equal(live.rows[2].rule, "line:3");
	live_finish(&live);

	assert_int_equal(live_read(directory, 1, 2, &live), 0);
	assert_int_equal(live.n, 2);
	assert_true(live.more);
	live_finish(&live);
	assert_int_equal(live.n, 0);
}

/* Without the list the maps are read, and there are none. */
static void test_list_of_another_version(void **state)
{
	struct live live;

	write_list("ANOTHER HEADER\n");
	assert_true(live_read(directory, 1, 10, &live) < 0);
	write_list("");
	assert_true(live_read(directory, 1, 10, &live) < 0);
}

static struct json_object *member(struct json_object *object, const char *key)
{
	struct json_object *found;

	if (!json_object_object_get_ex(object, key, &found))
		fail_msg("no member %s", key);
	return found;
}

static struct json_object *at(struct json_object *object, const char *key, size_t i)
{
	struct json_object *array = member(object, key);

	assert_true(i < json_object_array_length(array));
	return json_object_array_get_idx(array, i);
}

static const char *text_of(struct json_object *object, const char *key)
{
	return json_object_get_string(member(object, key));
}

static int64_t number_of(struct json_object *object, const char *key)
{
	return json_object_get_int64(member(object, key));
}

static struct json_object *snapshot_of(const struct live *live, const struct counters *kernel)
{
	_cleanup_free_ char *text = NULL;
	struct history history = { .n = 1, .next = 1, .rates = { { 5, 6, 7, 8, 9, 10 } } };
	struct stats worker = {}, bulk = {};
	const struct stats *workers[] = { &worker, &bulk };
	struct metrics metrics = { .workers = workers, .n_workers = 1, .kernel = kernel };
	struct json_object *root;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	stats_add(&worker.closed[CLOSE_CONNECT_FAILED], 3);
	snapshot_write(out, &(struct snapshot){ .metrics = &metrics,
						.history = &history,
						.live = live,
						.now_ns = 5000000 });
	fclose(out);
	root = json_tokener_parse(text);
	assert_non_null(root);
	return root;
}

static void test_snapshot(void **state)
{
	struct counted_rule rule = { .hits = 4, .last_ns = 2000000, .text = { .name = "x" } };
	struct counters kernel = { .rules = &rule, .n_rules = 1 };
	struct json_object *root, *row;
	struct live live;

	kernel.stats[TPROXY_STAT_NO_RELAY] = 2;
	write_list(list);
	assert_int_equal(live_read(directory, 1, 10, &live), 0);
	root = snapshot_of(&live, &kernel);
	assert_int_equal(number_of(root, "version"), SNAPSHOT_JSON_VERSION);

	/* The rows with the most bytes first; sums over all rows. */
	row = at(root, "connections", 0);
	assert_string_equal(text_of(row, "id"), "1c");
	assert_string_equal(text_of(row, "verdict"), "observed");
	assert_string_equal(text_of(row, "destination"), "192.0.2.2:443");
	assert_int_equal(number_of(row, "down"), 200);
	row = at(root, "programs", 0);
	assert_string_equal(text_of(row, "name"), "curl");
	assert_int_equal(number_of(row, "connections"), 2);
	assert_int_equal(number_of(row, "up"), 110);
	row = at(root, "destinations", 1);
	assert_string_equal(text_of(row, "name"), "192.0.2.1:80");
	assert_int_equal(number_of(row, "down"), 22);

	assert_int_equal(number_of(member(root, "ends"), "destination failed"), 3);
	assert_int_equal(number_of(member(member(root, "kernel"), "counters"), "no_relay"), 2);
	row = at(member(root, "kernel"), "rules", 0);
	assert_string_equal(text_of(row, "name"), "default");
	assert_int_equal(number_of(row, "last_hit_ms_ago"), 3);
	assert_int_equal(json_object_get_int64(at(member(root, "history"), "down", 0)), 10);
	json_object_put(root);
	live_finish(&live);
}

static void test_snapshot_of_nothing(void **state)
{
	struct json_object *root = snapshot_of(NULL, NULL), *found;

	assert_false(json_object_object_get_ex(root, "kernel", &found));
	assert_false(json_object_object_get_ex(root, "connections", &found));
	json_object_put(root);
}

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/" PINNED_LIST, directory);
	unlink(path);
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_history),	 cmocka_unit_test(test_json),
		cmocka_unit_test(test_list),	 cmocka_unit_test(test_list_of_another_version),
		cmocka_unit_test(test_snapshot), cmocka_unit_test(test_snapshot_of_nothing),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
