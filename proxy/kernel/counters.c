// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See counters.h. The maps are opened for each reading: after another load other maps are pinned.
 *
 * A load of rules assigns only counters that the rules before do not use. So texts and counts read
 * after the rules belong to these rules, unless two loads happen meanwhile: then a rule may be
 * shown once with another rule's text.
 */
#include "counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>

#include "bpffs.h"
#include "util.h"

static int read_value(const char *pin_dir, enum pinned_map_id id, void *ret_value)
{
	_cleanup_close_ int fd = -1;
	const __u32 key = 0;
	int r;

	r = bpffs_open_map(pin_dir, id, /* writable= */ false, &fd);
	return r < 0 ? r : bpf_map_lookup_elem(fd, &key, ret_value);
}

static int read_stat(int fd, __u32 key, int cpus, __u64 *values, uint64_t *sum)
{
	int r = bpf_map_lookup_elem(fd, &key, values), i;

	for (i = 0; r == 0 && i < cpus; i++)
		*sum += values[i];
	return r;
}

/*
 * Reads TPROXY_STAT_REFUSED last. The kernel half counts the reason first, so the reasons
 * exceed the refusals only by calls that take longer than the reading.
 */
static int read_stats(const char *pin_dir, int cpus, uint64_t stats[_TPROXY_STAT_MAX])
{
	_cleanup_free_ __u64 *values = calloc((size_t)cpus, sizeof(*values));
	_cleanup_close_ int fd = -1;
	__u32 key;
	int r;

	if (!values)
		return -ENOMEM;
	r = bpffs_open_map(pin_dir, PINNED_STATS, /* writable= */ false, &fd);
	for (key = 0; r == 0 && key < _TPROXY_STAT_MAX; key++) {
		if (key != TPROXY_STAT_REFUSED)
			r = read_stat(fd, key, cpus, values, &stats[key]);
	}
	if (r == 0)
		r = read_stat(fd, TPROXY_STAT_REFUSED, cpus, values, &stats[TPROXY_STAT_REFUSED]);
	return r;
}

/* Adds the rule of a counter, unless it is the last one that was added: rows of one rule. */
static void add_rule(struct counters *c, uint32_t counter, uint16_t action)
{
	if (c->n_rules > 0 && c->rules[c->n_rules - 1].counter == counter)
		return;
	c->rules[c->n_rules++] = (struct counted_rule){ .counter = counter, .action = action };
}

static void list_rules(struct counters *c, const struct tproxy_rules *rules)
{
	size_t i;

	for (i = 0; i < rules->n_rows && i < TPROXY_RULES_MAX; i++) {
		if (rules->rows[i].action != TPROXY_RULE_SKIP)
			add_rule(c, rules->rows[i].counter, rules->rows[i].action);
	}
	add_rule(c, rules->default_counter, rules->default_action);
}

static int read_rule(int stats_fd, int texts_fd, int cpus, struct tproxy_rule_stat *each,
		     struct counted_rule *rule)
{
	struct tproxy_rule_text *text = &rule->text;
	int r, i;

	r = bpf_map_lookup_elem(texts_fd, &rule->counter, text);
	if (r == 0)
		r = bpf_map_lookup_elem(stats_fd, &rule->counter, each);
	text->name[sizeof(text->name) - 1] = text->text[sizeof(text->text) - 1] = '\0';
	for (i = 0; r == 0 && i < cpus; i++) {
		rule->hits += each[i].hits;
		if (each[i].last_ns > rule->last_ns)
			rule->last_ns = each[i].last_ns;
	}
	return r;
}

static int read_rules(const char *pin_dir, int cpus, struct counters *c)
{
	_cleanup_free_ struct tproxy_rule_stat *each = calloc((size_t)cpus, sizeof(*each));
	_cleanup_free_ struct tproxy_rules *rules = calloc(1, sizeof(*rules));
	_cleanup_close_ int stats_fd = -1, texts_fd = -1;
	size_t i;
	int r;

	c->rules = calloc(TPROXY_RULES_MAX + 1, sizeof(*c->rules));
	if (!each || !rules || !c->rules)
		return -ENOMEM;
	r = read_value(pin_dir, PINNED_RULES_ACTIVE, rules);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_RULE_STATS, /* writable= */ false, &stats_fd);
	if (r == 0)
		r = bpffs_open_map(pin_dir, PINNED_RULE_TEXTS, /* writable= */ false, &texts_fd);
	if (r < 0)
		return r;
	c->generation = rules->generation;
	if (rules->generation)
		list_rules(c, rules);
	for (i = 0; r == 0 && i < c->n_rules; i++)
		r = read_rule(stats_fd, texts_fd, cpus, each, &c->rules[i]);
	return r;
}

int counters_read_stats(const char *pin_dir, struct counters *ret_counters)
{
	struct tproxy_policy policy = {};
	struct counters c = {};
	int cpus = libbpf_num_possible_cpus(), r;

	if (cpus < 0)
		return cpus;
	r = read_value(pin_dir, PINNED_POLICY, &policy);
	if (r == 0 && policy.abi_version != TPROXY_ABI_VERSION)
		r = -EPROTO;
	if (r == 0)
		r = read_stats(pin_dir, cpus, c.stats);
	if (r < 0)
		return r;
	c.policy_flags = policy.flags;
	c.loaded_ns = policy.loaded_ns;
	*ret_counters = c;
	return 0;
}

int counters_read(const char *pin_dir, struct counters *ret_counters)
{
	struct counters c;
	int r;

	r = counters_read_stats(pin_dir, &c);
	if (r < 0)
		return r;
	r = read_rules(pin_dir, libbpf_num_possible_cpus(), &c);
	if (r < 0) {
		counters_finish(&c);
		return r;
	}
	*ret_counters = c;
	return 0;
}

void counters_finish(struct counters *counters)
{
	free(counters->rules);
	counters->rules = NULL;
	counters->n_rules = 0;
}
