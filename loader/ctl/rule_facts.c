// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl explain. See rule_facts.h. */
#include "rule_facts.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpffs.h"
#include "caller.h"
#include "host/json.h"
#include "rules.bpf.h"
#include "state/rules_view.h"
#include "util.h"

/* Limit of loads of rules while the rules and their sets are read. */
#define READ_TRIES 10

/* For rules.bpf.h: reads a name in the memory of this process. */
static __always_inline void rules_name_read(__u64 chunk[RULES_CHUNK_WORDS], const char *name,
					    __u32 offset, __u32 n)
{
	memcpy(chunk, name + offset, n);
}

/*
 * Returns the cgroup tests that hold for the caller's cgroup and the cgroups above it. The name of
 * the root is empty.
 */
static __u64 cgroup_bits(const struct tproxy_rules *rules, const struct caller *caller)
{
	_cleanup_free_ char *path = strdup(caller->cgroup.path);
	uint32_t level = caller->cgroup.level;
	__u64 bits = 0;

	if (!path)
		return 0;
	for (;;) {
		char *slash = level ? strrchr(path, '/') : NULL;
		const char *name = slash ? slash + 1 : "";

		if (level < TPROXY_CGROUP_LEVELS_MAX)
			bits |= rules_test_cgroup(rules, caller->cgroup_ids[level], name,
						  (__u32)strlen(name));
		if (!slash)
			return bits;
		*slash = '\0';
		level--;
	}
}

/*
 * Opens the sets of these rules. Returns 1 if the rules were replaced meanwhile, because the sets
 * may then belong to the new rules.
 */
static int open_sets(const char *pin_dir, const struct tproxy_rules *rules, int *ret_fd,
		     enum pinned_map_id *ret_failed)
{
	_cleanup_free_ struct tproxy_rules *after = malloc(sizeof(*after));
	int r, opened;

	if (!after)
		return -ENOMEM;
	opened = rules_view_open_sets(pin_dir, rules->sets_slot, ret_fd);
	r = rules_view_read_rules(pin_dir, after);
	if (r < 0)
		return r;
	if (after->generation != rules->generation)
		return 1;
	*ret_failed = PINNED_SETS_ACTIVE;
	return opened;
}

/* As open_sets(), and takes the rules if they can be used. */
static int take(struct rule_facts_source *source, struct tproxy_rules **rules,
		const struct caller *caller, enum pinned_map_id *ret_failed)
{
	_cleanup_close_ int sets_fd = -1;
	int r = 0;

	if ((*rules)->needs & TPROXY_NEEDS_SETS)
		r = open_sets(source->pin_dir, *rules, &sets_fd, ret_failed);
	if (r)
		return r;
	rule_facts_take(source, TAKE_PTR(*rules), TAKE_FD(sets_fd), caller);
	return 0;
}

void rule_facts_take(struct rule_facts_source *source, struct tproxy_rules *rules, int sets_fd,
		     const struct caller *caller)
{
	rule_facts_finish(source);
	source->rules = rules;
	source->sets_fd = sets_fd;
	source->cgroups = cgroup_bits(rules, caller);
}

int rule_facts_refresh(struct rule_facts_source *source, const struct caller *caller,
		       enum pinned_map_id *ret_failed)
{
	_cleanup_free_ struct tproxy_rules *now = malloc(sizeof(*now));
	int tries, r = 1;

	*ret_failed = PINNED_RULES_ACTIVE;
	if (!source->pin_dir)
		return 0;
	if (!now)
		return -ENOMEM;
	for (tries = 0; r > 0 && tries < READ_TRIES; tries++) {
		r = rules_view_read_rules(source->pin_dir, now);
		if (r < 0)
			return r;
		if (source->rules && source->rules->generation == now->generation)
			return 0;
		r = take(source, &now, caller, ret_failed);
	}
	return r > 0 ? -EAGAIN : r;
}

void rule_facts_finish(struct rule_facts_source *source)
{
	free(source->rules);
	source->rules = NULL;
	util_closep(&source->sets_fd);
	source->sets_fd = -1;
}

int rule_facts_find(const struct rule_facts_source *source, const struct caller *caller,
		    const struct tproxy_endpoint *dst, bool named_only,
		    struct rule_found *ret_found, enum pinned_map_id *ret_failed)
{
	struct tproxy_prefix prefix = { .n_bits = 8 * sizeof(prefix.addr) };
	struct rule_facts facts = {
		.cgroups = source->cgroups,
		.uid = caller->uid,
		.gid = caller->gid,
		.port = dst->port,
		.protocol = IPPROTO_TCP,
		.named_only = named_only,
	};

	*ret_found = (struct rule_found){ .row = RULES_NO_ROW };
	if (!source->rules->generation)
		return 0;
	_Static_assert(sizeof(facts.comm) == sizeof(caller->command), "padded with NULs");
	memcpy(facts.comm, caller->command, sizeof(facts.comm));
	if (source->sets_fd >= 0) {
		memcpy(prefix.addr, dst->addr, sizeof(prefix.addr));
		*ret_failed = PINNED_SETS_ACTIVE;
		if (bpf_map_lookup_elem(source->sets_fd, &prefix, &facts.sets) < 0 &&
		    errno != ENOENT)
			return -errno;
	}
	ret_found->sets = facts.sets;
	ret_found->row = rules_match(source->rules, &facts);
	return 0;
}

void rule_facts_add_rule(struct json_object *root, const struct rule_facts_source *source,
			 const struct rule_found *found)
{
	const struct tproxy_rules *rules = source->rules;
	const bool by_default = found->row == RULES_NO_ROW;
	const struct tproxy_rule *row = by_default ? NULL : &rules->rows[found->row];
	const __u32 counter = row ? row->counter : rules->default_counter;
	struct json_object *rule = json_object_new_object();
	_cleanup_close_ int fd = -1;
	struct tproxy_rule_text text;

	json_object_object_add(root, "rule", rule);
	json_add_bool(rule, "default", by_default);
	json_add_string(rule, "action",
			rules_view_action(row ? row->action : rules->default_action));
	if (row)
		json_add_number(rule, "number", row->group + (uint64_t)1);
	if (counter != TPROXY_NO_RULE)
		json_add_number(rule, "counter", counter);
	if (!source->pin_dir ||
	    bpffs_open_map(source->pin_dir, PINNED_RULE_TEXTS, /* writable= */ false, &fd) < 0 ||
	    rules_view_rule_text(fd, counter, &text) < 0)
		return;
	if (*text.name)
		json_add_string(rule, "name", text.name);
	if (text.line)
		json_add_number(rule, "line", text.line);
	json_add_string(rule, "text", text.text);
}

void rule_facts_add_sets(struct json_object *facts, const struct rule_facts_source *source,
			 const struct rule_found *found)
{
	char names[1024] = "";
	_cleanup_close_ int fd = -1;
	struct tproxy_set_text text;
	size_t len = 0;
	__u32 set;

	if (!source->pin_dir ||
	    bpffs_open_map(source->pin_dir, PINNED_SET_TEXTS, /* writable= */ false, &fd) < 0)
		return;
	for (set = 0; set < TPROXY_SETS_MAX && len < sizeof(names) - sizeof(text.name); set++) {
		if (!(found->sets.words[set / 64] >> set % 64 & 1))
			continue;
		if (rules_view_set_text(fd, source->rules, set, &text) < 0)
			continue;
		len += (size_t)sprintf(names + len, "%s%s", len ? ", " : "", text.name);
	}
	json_add_string(facts, "sets", len ? names : "none");
}
