// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl block --list and --stats. See block.h. Both need no lock. --list reads the whole list
 * first, to sort it.
 */
#include "block.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "escape.h"
#include "host/json.h"
#include "log.h"
#include "monotonic.h"
#include "options.h"
#include "rules/prefix.h"
#include "state/maps.h"
#include "util.h"

#define NS_PER_MS UINT64_C(1000000)
#define SPAN_LEN  32

static const char *const place_names[_TPROXY_PLACE_MAX] = {
	[TPROXY_PLACE_CONNECT] = "connect",
	[TPROXY_PLACE_INGRESS] = "ingress",
	[TPROXY_PLACE_EGRESS] = "egress",
	[TPROXY_PLACE_XDP] = "xdp",
};

static const char *const kind_names[_TPROXY_BLOCK_KIND_MAX] = {
	[TPROXY_BLOCK] = "block",
	[TPROXY_ALLOW] = "allow",
};

static int open_read(const char *pin_dir, struct pins *pins, struct block_store *store)
{
	int r = maps_check_loaded(pin_dir);

	pins->path = pin_dir;
	return r < 0 ? r : block_store_open_read(pins, store);
}

/* Formats "3 s", "5 min", "2 h" or "4 d". Returns buf. */
static char *format_span(uint64_t ns, char buf[SPAN_LEN])
{
	const uint64_t s = ns / UINT64_C(1000000000);

	if (s < 120)
		snprintf(buf, SPAN_LEN, "%" PRIu64 " s", s);
	else if (s < 7200)
		snprintf(buf, SPAN_LEN, "%" PRIu64 " min", s / 60);
	else if (s < UINT64_C(48) * 3600)
		snprintf(buf, SPAN_LEN, "%" PRIu64 " h", s / 3600);
	else
		snprintf(buf, SPAN_LEN, "%" PRIu64 " d", s / 86400);
	return buf;
}

static void print_entry(const struct block_item *item, enum tproxy_block_kind kind,
			const struct tproxy_block_text *texts, uint64_t now)
{
	const struct tproxy_block_entry *entry = &item->entry;
	char prefix[PREFIX_FORMAT_LEN], ends[SPAN_LEN] = "never", last[SPAN_LEN + 8] = "never";
	const char *text = texts[entry->comment % TPROXY_BLOCK_TEXTS_MAX].text;
	char span[SPAN_LEN], comment[ESCAPE_LEN(sizeof(texts->text))];

	if (entry->ends_ns)
		format_span(entry->ends_ns - now, ends);
	if (entry->last_ns)
		snprintf(last, sizeof(last), "%s ago",
			 format_span(now > entry->last_ns ? now - entry->last_ns : 0, span));
	printf("%-6s %-43s %8s %12" PRIu64 " %15" PRIu64 "  %-11s %s\n", kind_names[kind],
	       prefix_format(&item->prefix, prefix, sizeof(prefix)), ends, (uint64_t)entry->packets,
	       (uint64_t)entry->bytes, last,
	       escape_text(text, strlen(text), comment, sizeof(comment)));
}

static struct json_object *entry_object(const struct block_item *item, enum tproxy_block_kind kind,
					const struct tproxy_block_text *texts, uint64_t now)
{
	const struct tproxy_block_entry *entry = &item->entry;
	struct json_object *object = json_object_new_object();
	char prefix[PREFIX_FORMAT_LEN];

	json_add_string(object, "action", kind_names[kind]);
	json_add_string(object, "cidr", prefix_format(&item->prefix, prefix, sizeof(prefix)));
	if (entry->ends_ns)
		json_add_number(object, "ends_in_ms", (entry->ends_ns - now) / NS_PER_MS);
	json_add_number(object, "packets", entry->packets);
	json_add_number(object, "bytes", entry->bytes);
	if (entry->last_ns)
		json_add_number(object, "last_hit_ms_ago",
				now > entry->last_ns ? (now - entry->last_ns) / NS_PER_MS : 0);
	if (entry->comment)
		json_add_string(object, "comment",
				texts[entry->comment % TPROXY_BLOCK_TEXTS_MAX].text);
	json_add_bool(object, "by_file", entry->flags & TPROXY_BLOCK_BY_FILE);
	return object;
}

static void print_list(const struct block_list *list, const struct tproxy_block_text *texts,
		       uint64_t now)
{
	size_t kind, i;

	if (!list->kinds[TPROXY_BLOCK].n && !list->kinds[TPROXY_ALLOW].n) {
		printf("the list is empty\n");
		return;
	}
	printf("%-6s %-43s %8s %12s %15s  %-11s %s\n", "ACTION", "CIDR", "ENDS IN", "PACKETS",
	       "BYTES", "LAST HIT", "COMMENT");
	for (kind = _TPROXY_BLOCK_KIND_MAX; kind-- > 0;) {
		for (i = 0; i < list->kinds[kind].n; i++)
			print_entry(&list->kinds[kind].list[i], kind, texts, now);
	}
}

static void add_facts(struct json_object *root, const struct block_store *store, uint64_t now)
{
	const struct tproxy_block_slot *facts = block_store_facts(store);
	const int error = facts->error ? (int)facts->error : EACCES;

	json_add_number(root, "generation", facts->generation);
	if (facts->loaded_ns)
		json_add_number(root, "changed_ms_ago", (now - facts->loaded_ns) / NS_PER_MS);
	json_add_string(root, "errno", strerrorname_np(error) ? strerrorname_np(error) : "?");
	json_add_bool(root, "unconfirmed", block_store_is_held(store));
}

static void print_list_json(const struct block_store *store, const struct block_list *list,
			    const struct tproxy_block_text *texts, uint64_t now)
{
	_cleanup_(json_put) struct json_object *root = json_new_document();
	struct json_object *entries = json_object_new_array();
	size_t kind, i;

	add_facts(root, store, now);
	json_object_object_add(root, "entries", entries);
	for (kind = _TPROXY_BLOCK_KIND_MAX; kind-- > 0;) {
		for (i = 0; i < list->kinds[kind].n; i++)
			json_object_array_add(entries, entry_object(&list->kinds[kind].list[i],
								    kind, texts, now));
	}
	json_print(root);
}

int block_show_list(const struct ctl_options *options)
{
	struct block_store store = BLOCK_STORE_NULL;
	_cleanup_free_ struct tproxy_block_text *texts = NULL;
	struct block_list list = {};
	struct pins pins = PINS_NULL;
	uint64_t now;
	size_t kind;
	int r;

	r = open_read(options->pin_dir, &pins, &store);
	if (r == 0)
		r = block_store_read_texts(&store, &texts);
	if (r == 0)
		r = block_store_read(&store, &list);
	now = monotonic_kernel_ns();
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX; kind++)
		block_items_drop_ended(&list.kinds[kind], now);
	if (r == 0 && options->json) {
		print_list_json(&store, &list, texts, now);
	} else if (r == 0) {
		if (block_store_is_held(&store))
			printf("the list waits for confirmation\n");
		print_list(&list, texts, now);
	}
	block_list_finish(&list);
	block_store_close(&store);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int add_place(struct json_object *places, int fd, __u32 place)
{
	const int n_cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct tproxy_block_stat *stats = NULL;
	struct json_object *object = json_object_new_object();
	struct tproxy_block_stat sum = {};
	int i, r;

	json_object_array_add(places, object);
	stats = n_cpus < 0 ? NULL : calloc((size_t)n_cpus, sizeof(*stats));
	r = stats ? bpf_map_lookup_elem(fd, &place, stats) : -ENOMEM;
	for (i = 0; i < n_cpus && r == 0; i++) {
		sum.seen += stats[i].seen;
		sum.dropped += stats[i].dropped;
		sum.dropped_bytes += stats[i].dropped_bytes;
		sum.invalid += stats[i].invalid;
		sum.allowed += stats[i].allowed;
		sum.control += stats[i].control;
	}
	json_add_string(object, "place", place_names[place]);
	json_add_number(object, "seen", sum.seen);
	json_add_number(object, "passed", sum.seen - sum.dropped - sum.invalid);
	json_add_number(object, "dropped", sum.dropped);
	json_add_number(object, "dropped_bytes", sum.dropped_bytes);
	json_add_number(object, "invalid", sum.invalid);
	json_add_number(object, "allowed", sum.allowed);
	json_add_number(object, "control", sum.control);
	return r;
}

/*
 * Counts the entries that have not ended. Ended ones stay in the list until a command or
 * tproxy-load --follow removes them. The list is read only if there may be such entries.
 */
static int count_entries(struct block_store *store, uint64_t now, size_t n[_TPROXY_BLOCK_KIND_MAX])
{
	const struct tproxy_block_slot *facts = block_store_facts(store);
	struct block_list list = {};
	size_t kind;
	int r = 0;

	if (facts->next_end_ns && facts->next_end_ns <= now)
		r = block_store_read(store, &list);
	for (kind = 0; kind < _TPROXY_BLOCK_KIND_MAX; kind++) {
		n[kind] = facts->n_entries[kind];
		if (r == 0 && list.kinds[kind].n) {
			block_items_drop_ended(&list.kinds[kind], now);
			n[kind] = list.kinds[kind].n;
		}
	}
	block_list_finish(&list);
	return r;
}

static int read_stats(struct block_store *store, struct json_object *root)
{
	const uint64_t now = monotonic_kernel_ns();
	struct json_object *places = json_object_new_array();
	size_t n[_TPROXY_BLOCK_KIND_MAX];
	__u32 place;
	int r = count_entries(store, now, n);

	add_facts(root, store, now);
	json_add_number(root, "blocked", n[TPROXY_BLOCK]);
	json_add_number(root, "allowed", n[TPROXY_ALLOW]);
	json_object_object_add(root, "places", places);
	if (r < 0)
		return r;
	for (place = 0; place < _TPROXY_PLACE_MAX && r == 0; place++)
		r = add_place(places, store->stats_fd, place);
	if (r < 0)
		log_err("cannot read the counts of the block list: %s", strerror(-r));
	return r;
}

static void print_stats(struct json_object *root)
{
	static const char *const keys[] = { "seen",	     "passed",	"dropped",
					    "dropped_bytes", "invalid", "allowed" };
	struct json_object *places = json_object_object_get(root, "places");
	size_t i, k;

	printf("the list blocks %" PRIu64 " and allows %" PRIu64 "; generation %" PRIu64
	       ", connect() fails with %s%s\n\n",
	       json_get_number(root, "blocked"), json_get_number(root, "allowed"),
	       json_get_number(root, "generation"), json_get_string(root, "errno"),
	       json_get_bool(root, "unconfirmed") ? "; it waits for confirmation" : "");
	printf("%-8s %14s %14s %14s %16s %10s %10s\n", "PLACE", "SEEN", "PASSED", "DROPPED",
	       "DROPPED BYTES", "INVALID", "ALLOWED");
	for (i = 0; i < json_object_array_length(places); i++) {
		struct json_object *place = json_object_array_get_idx(places, i);

		printf("%-8s", json_get_string(place, "place"));
		for (k = 0; k < ARRAY_SIZE(keys); k++)
			printf(" %*" PRIu64,
			       k < 3	? 14
			       : k == 3 ? 16
					: 10,
			       json_get_number(place, keys[k]));
		printf("\n");
	}
}

static int show_stats_once(const struct ctl_options *options)
{
	_cleanup_(json_put) struct json_object *root = json_new_document();
	struct block_store store = BLOCK_STORE_NULL;
	struct pins pins = PINS_NULL;
	int r;

	r = open_read(options->pin_dir, &pins, &store);
	if (r == 0)
		r = read_stats(&store, root);
	if (r == 0 && options->json)
		json_print(root);
	else if (r == 0)
		print_stats(root);
	block_store_close(&store);
	return r;
}

int block_show_stats(const struct ctl_options *options)
{
	/* Clears the screen, and puts the cursor at its first line. */
	const char *const clear = isatty(STDOUT_FILENO) && !options->json ? "\033[H\033[J" : "";
	int r;

	if (!options->watch)
		return show_stats_once(options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	for (;;) {
		printf("%s", clear);
		r = show_stats_once(options);
		if (r < 0 || fflush(stdout) != 0)
			return EXIT_FAILURE;
		sleep(1);
	}
}
