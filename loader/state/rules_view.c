// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the rules in force, see rules_view.h.
 *
 * The texts and counts are read after the rules. They belong to these rules while the generation is
 * the same or the next one, because a load assigns only indices that the previous rules do not use.
 * So the view is consistent if the generation is still the same after everything was read;
 * otherwise it is read again.
 */
#include "rules_view.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "host/json.h"
#include "inner_maps.h"
#include "objects.h"
#include "pins.h"
#include "wait_lock.h"
#include "util.h"

/* Limit of loads of rules while the rules are read. */
#define READ_TRIES 10

/* Returns true if this process may not open a map by its id, or not open the map of maps. */
static bool is_denied(int r)
{
	return r == -EPERM || r == -EACCES;
}

static int open_inner(const char *pin_dir, enum pinned_map_id outer, uint32_t slot,
		      enum pinned_map_id pinned, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	int r;

	r = bpffs_open_map(pin_dir, outer, /* writable= */ false, &fd);
	if (r == 0)
		r = inner_map_open(fd, slot, ret_fd);
	if (is_denied(r))
		r = bpffs_open_map(pin_dir, pinned, /* writable= */ false, ret_fd);
	return r;
}

int rules_view_open_sets(const char *pin_dir, uint32_t sets_slot, int *ret_fd)
{
	return open_inner(pin_dir, PINNED_SETS, sets_slot, PINNED_SETS_ACTIVE, ret_fd);
}

int rules_view_read_rules(const char *pin_dir, struct tproxy_rules *ret_rules)
{
	_cleanup_close_ int fd = -1;
	const __u32 key = 0;
	int r;

	r = open_inner(pin_dir, PINNED_RULES, 0, PINNED_RULES_ACTIVE, &fd);
	return r < 0 ? r : bpf_map_lookup_elem(fd, &key, ret_rules);
}

const struct tproxy_rule *rules_view_row(const struct tproxy_rules *rules, size_t group)
{
	size_t i;

	for (i = 0; i < rules->n_rows && i < TPROXY_RULES_MAX; i++) {
		if (rules->rows[i].group == group && rules->rows[i].action != TPROXY_RULE_SKIP)
			return &rules->rows[i];
	}
	return NULL;
}

size_t rules_view_count(const struct tproxy_rules *rules)
{
	size_t n = 0, i;

	for (i = 0; i < rules->n_rows && i < TPROXY_RULES_MAX; i++) {
		if (rules->rows[i].group >= n)
			n = rules->rows[i].group + (size_t)1;
	}
	return n;
}

static int read_stat(int stats_fd, __u32 index, struct tproxy_rule_stat *ret_stat)
{
	_cleanup_free_ struct tproxy_rule_stat *each = NULL;
	struct tproxy_rule_stat stat = {};
	int cpus = libbpf_num_possible_cpus(), r, i;

	if (cpus < 0)
		return cpus;
	each = calloc((size_t)cpus, sizeof(*each));
	if (!each)
		return -ENOMEM;
	r = bpf_map_lookup_elem(stats_fd, &index, each);
	if (r < 0)
		return r;
	for (i = 0; i < cpus; i++) {
		stat.hits += each[i].hits;
		if (each[i].last_ns > stat.last_ns)
			stat.last_ns = each[i].last_ns;
	}
	*ret_stat = stat;
	return 0;
}

int rules_view_rule_text(int texts_fd, uint32_t counter, struct tproxy_rule_text *ret_text)
{
	int r = bpf_map_lookup_elem(texts_fd, &counter, ret_text);

	if (r < 0)
		return r;
	ret_text->name[sizeof(ret_text->name) - 1] = '\0';
	ret_text->upstream[sizeof(ret_text->upstream) - 1] = '\0';
	ret_text->text[sizeof(ret_text->text) - 1] = '\0';
	return 0;
}

int rules_view_set_text(int set_texts_fd, const struct tproxy_rules *rules, uint32_t set,
			struct tproxy_set_text *ret_text)
{
	const __u32 key = rules->sets_slot % 2 * TPROXY_SETS_MAX + set;
	int r = bpf_map_lookup_elem(set_texts_fd, &key, ret_text);

	if (r < 0)
		return r;
	ret_text->name[sizeof(ret_text->name) - 1] = '\0';
	return ret_text->generation == rules->generation ? 0 : -ENOENT;
}

static int read_counter(int stats_fd, int texts_fd, __u32 index, struct rules_view_rule *rule)
{
	int r = rules_view_rule_text(texts_fd, index, &rule->text);

	return r < 0 ? r : read_stat(stats_fd, index, &rule->stat);
}

/* Reads texts and counts of the rules in view->rules. */
static int read_list(const char *pin_dir, struct rules_view *view)
{
	_cleanup_close_ int stats_fd = -1, texts_fd = -1;
	const struct tproxy_rules *rules = &view->rules;
	size_t i;
	int r;

	r = bpffs_open_map(pin_dir, PINNED_RULE_STATS, /* writable= */ false, &stats_fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_RULE_TEXTS, /* writable= */ false, &texts_fd);
	if (r < 0)
		return r;
	view->n = rules_view_count(rules);
	view->list = calloc(view->n + 1, sizeof(*view->list));
	if (!view->list)
		return -ENOMEM;
	for (i = 0; i < view->n && r == 0; i++) {
		const struct tproxy_rule *row = rules_view_row(rules, i);

		if (!row)
			continue;
		view->list[i].action = row->action;
		view->list[i].protocol = row->protocol;
		view->list[i].flags = row->flags;
		view->list[i].error = row->error;
		r = read_counter(stats_fd, texts_fd, row->counter, &view->list[i]);
	}
	view->list[i].action = (uint8_t)rules->default_action;
	view->list[i].flags = (uint8_t)rules->default_flags;
	view->list[i].error = rules->default_error;
	return r < 0 ? r : read_counter(stats_fd, texts_fd, rules->default_counter, &view->list[i]);
}

/* Reads the view once. Returns 1 if other rules came into force meanwhile. */
static int try_read(const char *pin_dir, struct rules_view *view)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	_cleanup_free_ struct tproxy_rules *after = malloc(sizeof(*after));
	char path[PATH_MAX];
	int r;

	if (!after)
		return -ENOMEM;
	r = rules_view_read_rules(pin_dir, &view->rules);
	if (r < 0)
		return r;
	view->unconfirmed = pins_path(&pins, PINNED_PREVIOUS, path) == 0 && access(path, F_OK) == 0;
	view->abandoned = view->unconfirmed && !wait_lock_is_held(pin_dir, WAIT_LOCK_RULES);
	if (!view->rules.generation)
		return 0;
	r = read_list(pin_dir, view);
	if (r == 0)
		r = rules_view_read_rules(pin_dir, after);
	return r < 0 ? r : after->generation != view->rules.generation;
}

int rules_view_read(const char *pin_dir, struct rules_view *ret_view)
{
	int tries = 0, r;

	do {
		*ret_view = (struct rules_view){};
		r = try_read(pin_dir, ret_view);
		if (r)
			rules_view_finish(ret_view);
	} while (r > 0 && ++tries < READ_TRIES);
	return r > 0 ? -EAGAIN : r;
}

void rules_view_finish(struct rules_view *view)
{
	free(view->list);
	view->list = NULL;
}

const char *rules_view_action(unsigned int action)
{
	static const char *const names[] = {
		[TPROXY_RULE_REDIRECT] = "redirect",
		[TPROXY_RULE_DIRECT] = "direct",
		[TPROXY_RULE_OBSERVE] = "observe",
		[TPROXY_RULE_REFUSE] = "refuse",
	};

	return action < ARRAY_SIZE(names) ? names[action] : "?";
}

const char *rules_view_connect(unsigned int flags)
{
	return flags & TPROXY_RULE_HONEST ? "honest" : flags & TPROXY_RULE_EAGER ? "eager" : NULL;
}

void rules_view_add_unconfirmed(struct json_object *object, const struct rules_view *view)
{
	json_add_bool(object, "unconfirmed", view->unconfirmed);
	if (view->unconfirmed)
		json_add_bool(object, "abandoned", view->abandoned);
}

const char *rules_view_unconfirmed(struct json_object *object)
{
	if (!json_get_bool(object, "unconfirmed"))
		return "";
	return json_get_bool(object, "abandoned")
		       ? "; NOT CONFIRMED, and no process waits to take them back"
		       : "; NOT CONFIRMED YET";
}

int rules_view_add_summary(struct json_object *root, const char *pin_dir)
{
	struct json_object *summary = json_object_new_object();
	_cleanup_(rules_view_finish) struct rules_view view = {};
	int r;

	r = rules_view_read(pin_dir, &view);
	json_object_object_add(root, "rules", summary);
	if (r < 0)
		return r;
	json_add_number(summary, "generation", view.rules.generation);
	rules_view_add_unconfirmed(summary, &view);
	if (!view.rules.generation)
		return 0;
	json_add_number(summary, "count", view.n);
	json_add_string(summary, "default", rules_view_action(view.rules.default_action));
	view.rules.file[sizeof(view.rules.file) - 1] = '\0';
	json_add_string(summary, "file", view.rules.file);
	return 0;
}
