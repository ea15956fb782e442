// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl rules show and stats. See rules.h. Both read the rules in force into one JSON object,
 * which is printed as it is or as one of two tables.
 */
#include "rules.h"

#include <bpf/bpf.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "host/json.h"
#include "monotonic.h"
#include "options.h"
#include "state/maps.h"
#include "state/rules_view.h"
#include "tproxy_abi.h"
#include "util.h"

#define NSEC_PER_MSEC UINT64_C(1000000)
#define AGO_LEN	      32

static struct json_object *rule_object(const struct rules_view_rule *rule, uint64_t now)
{
	struct json_object *object = json_object_new_object();
	const uint64_t last = rule->stat.last_ns;

	if (*rule->text.name)
		json_add_string(object, "name", rule->text.name);
	json_add_string(object, "action", rules_view_action(rule->action));
	if (rule->action == TPROXY_RULE_REFUSE)
		json_add_string(object, "errno",
				strerrorname_np(rule->error) ? strerrorname_np(rule->error) : "?");
	if (rules_view_connect(rule->flags))
		json_add_string(object, "connect", rules_view_connect(rule->flags));
	if (*rule->text.upstream)
		json_add_string(object, "upstream", rule->text.upstream);
	json_add_string(object, "protocol", rule->protocol == IPPROTO_UDP ? "udp" : "tcp");
	if (rule->text.line)
		json_add_number(object, "line", rule->text.line);
	json_add_string(object, "text", rule->text.text);
	json_add_number(object, "hits", rule->stat.hits);
	if (last)
		json_add_number(object, "last_hit_ms_ago",
				now > last ? (now - last) / NSEC_PER_MSEC : 0);
	return object;
}

/* Adds the sets in use: named sets, and lists of rules. */
static void add_sets(struct json_object *root, const char *pin_dir,
		     const struct tproxy_rules *rules)
{
	struct json_object *sets = json_object_new_array();
	struct tproxy_set_text text;
	_cleanup_close_ int fd = -1;
	__u32 i;

	json_object_object_add(root, "sets", sets);
	if (bpffs_open_map(pin_dir, PINNED_SET_TEXTS, /* writable= */ false, &fd) < 0)
		return;
	for (i = 0; i < TPROXY_SETS_MAX; i++) {
		struct json_object *object;

		if (rules_view_set_text(fd, rules, i, &text) < 0)
			continue;
		object = json_object_new_object();
		json_add_string(object, "name", text.name);
		json_add_number(object, "prefixes", text.n_prefixes);
		json_object_array_add(sets, object);
	}
}

static void add_rules(struct json_object *root, const struct rules_view *view)
{
	struct json_object *list = json_object_new_array(), *object;
	const uint64_t now = monotonic_kernel_ns();
	size_t i;

	json_object_object_add(root, "rules", list);
	for (i = 0; view->list && i < view->n; i++) {
		object = rule_object(&view->list[i], now);
		json_add_number(object, "number", i + 1);
		json_object_array_add(list, object);
	}
	if (view->list)
		json_object_object_add(root, "default", rule_object(&view->list[view->n], now));
}

static int read_rules(const char *pin_dir, struct json_object **ret_root)
{
	_cleanup_(rules_view_finish) struct rules_view view = {};
	struct json_object *root;
	int r;

	r = maps_check_loaded(pin_dir);
	if (r < 0)
		return r;
	r = rules_view_read(pin_dir, &view);
	if (r < 0)
		return maps_log_error(pin_dir, PINNED_RULES_ACTIVE, r);
	root = json_new_document();
	json_add_string(root, "pin_dir", pin_dir);
	json_add_number(root, "generation", view.rules.generation);
	if (view.rules.generation) {
		json_add_string(root, "file", view.rules.file);
		json_add_number(root, "loaded_ms_ago",
				(monotonic_kernel_ns() - view.rules.loaded_ns) / NSEC_PER_MSEC);
	}
	rules_view_add_unconfirmed(root, &view);
	add_rules(root, &view);
	if (view.rules.generation)
		add_sets(root, pin_dir, &view.rules);
	*ret_root = root;
	return 0;
}

/* Formats "3 s", "5 min", "2 h" or "4 d". Returns buf. */
static char *format_ago(uint64_t ms, char buf[AGO_LEN])
{
	const uint64_t s = ms / 1000;

	if (s < 120)
		snprintf(buf, AGO_LEN, "%" PRIu64 " s", s);
	else if (s < 7200)
		snprintf(buf, AGO_LEN, "%" PRIu64 " min", s / 60);
	else if (s < UINT64_C(48) * 3600)
		snprintf(buf, AGO_LEN, "%" PRIu64 " h", s / 3600);
	else
		snprintf(buf, AGO_LEN, "%" PRIu64 " d", s / 86400);
	return buf;
}

static const char *or_dash(const char *text)
{
	return text ? text : "-";
}

static void print_rule(struct json_object *rule, bool stats)
{
	char number[24] = "-", ago[AGO_LEN], last[AGO_LEN + 8] = "never";

	if (json_object_object_get_ex(rule, "number", NULL))
		snprintf(number, sizeof(number), "%" PRIu64, json_get_number(rule, "number"));
	if (json_object_object_get_ex(rule, "last_hit_ms_ago", NULL))
		snprintf(last, sizeof(last), "%s ago",
			 format_ago(json_get_number(rule, "last_hit_ms_ago"), ago));
	printf("%3s  %-16s ", number, or_dash(json_get_string(rule, "name")));
	if (stats)
		printf("%12" PRIu64 "  %-12s ", json_get_number(rule, "hits"), last);
	else
		printf("%-9s %12" PRIu64 "  ", json_get_string(rule, "action"),
		       json_get_number(rule, "hits"));
	printf("%s\n", json_get_string(rule, "text"));
}

static void print_text(struct json_object *root, bool stats)
{
	struct json_object *list = json_object_object_get(root, "rules");
	char ago[AGO_LEN];
	size_t i;

	if (!json_get_number(root, "generation")) {
		printf("no rules are loaded\n");
		return;
	}
	printf("generation %" PRIu64 ", loaded %s ago from %s%s\n\n",
	       json_get_number(root, "generation"),
	       format_ago(json_get_number(root, "loaded_ms_ago"), ago),
	       json_get_string(root, "file"), rules_view_unconfirmed(root));
	if (stats)
		printf(" NO  %-16s %12s  %-12s %s\n", "NAME", "HITS", "LAST HIT", "RULE");
	else
		printf(" NO  %-16s %-9s %12s  %s\n", "NAME", "ACTION", "HITS", "RULE");
	for (i = 0; i < json_object_array_length(list); i++)
		print_rule(json_object_array_get_idx(list, i), stats);
	print_rule(json_object_object_get(root, "default"), stats);
	list = json_object_object_get(root, "sets");
	if (!stats && json_object_array_length(list) > 0)
		printf("\n%-24s %s\n", "SET", "PREFIXES");
	for (i = 0; !stats && i < json_object_array_length(list); i++) {
		struct json_object *set = json_object_array_get_idx(list, i);

		printf("%-24s %" PRIu64 "\n", json_get_string(set, "name"),
		       json_get_number(set, "prefixes"));
	}
}

int rules_show(const struct ctl_options *options)
{
	_cleanup_(json_put) struct json_object *root = NULL;

	if (read_rules(options->pin_dir, &root) < 0)
		return EXIT_FAILURE;
	if (options->json)
		json_print(root);
	else
		print_text(root, options->verb == CTL_RULES_STATS);
	return EXIT_SUCCESS;
}
