// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load and tproxyctl: the indices of the counters, see rule_counters.h.
 *
 * Texts and counts of the rules in force do not change before the new rules are in force. A new
 * rule gets an index that was never used, or else the index whose rule was loaded longest ago. Two
 * generations of rules use 514 indices at most, so the indices of the previous generation stay, for
 * --confirm.
 *
 * The count is cleared before the text is written. A loader that dies in between leaves an old text
 * without a count, never a new text with another rule's count.
 */
#include "rule_counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monotonic.h"
#include "rules/rules.h"
#include "util.h"

#define NO_INDEX TPROXY_RULE_COUNTERS_MAX

/* State of each index during the assignment. */
struct assignment {
	uint16_t order[TPROXY_RULE_COUNTERS_MAX]; /* those of the rules in force come first */
	bool in_force[TPROXY_RULE_COUNTERS_MAX];
	bool taken[TPROXY_RULE_COUNTERS_MAX]; /* by the new rules */
};

int rule_counters_open(int stats_fd, int texts_fd, struct rule_counters *ret_counters)
{
	_cleanup_free_ struct tproxy_rule_text *texts =
		calloc(TPROXY_RULE_COUNTERS_MAX, sizeof(*texts));
	__u32 i;
	int r;

	if (!texts)
		return -ENOMEM;
	for (i = 0; i < TPROXY_RULE_COUNTERS_MAX; i++) {
		r = bpf_map_lookup_elem(texts_fd, &i, &texts[i]);
		if (r < 0)
			return r;
	}
	*ret_counters = (struct rule_counters){
		.stats_fd = stats_fd,
		.texts_fd = texts_fd,
		.texts = TAKE_PTR(texts),
	};
	return 0;
}

void rule_counters_close(struct rule_counters *counters)
{
	free(counters->texts);
	counters->texts = NULL;
}

uint32_t rule_counters_generation(const struct rule_counters *counters)
{
	uint32_t highest = 0;
	size_t i;

	for (i = 0; i < TPROXY_RULE_COUNTERS_MAX; i++) {
		if (counters->texts[i].generation > highest)
			highest = counters->texts[i].generation;
	}
	return highest;
}

/*
 * Puts the indices in force first, in the order of their rules, so that each of several rules with
 * the same text keeps its index.
 */
static void begin(struct assignment *a, const struct tproxy_rules *now)
{
	size_t n = 0, i;

	memset(a, 0, sizeof(*a));
	for (i = 0; now->generation && i <= now->n_rows && i <= TPROXY_RULES_MAX; i++) {
		const __u32 index = i < now->n_rows && i < TPROXY_RULES_MAX ? now->rows[i].counter
									    : now->default_counter;

		if (index >= TPROXY_RULE_COUNTERS_MAX || a->in_force[index])
			continue;
		a->in_force[index] = true;
		a->order[n++] = (uint16_t)index;
	}
	for (i = 0; i < TPROXY_RULE_COUNTERS_MAX; i++) {
		if (!a->in_force[i])
			a->order[n++] = (uint16_t)i;
	}
}

/* Returns the index that has this text already, or NO_INDEX. */
static uint16_t find_same(const struct rule_counters *counters, const struct assignment *a,
			  const struct rules_rule *rule)
{
	size_t i;

	for (i = 0; i < TPROXY_RULE_COUNTERS_MAX; i++) {
		const struct tproxy_rule_text *text = &counters->texts[a->order[i]];

		if (!a->taken[a->order[i]] && text->generation && text->hash == rule->hash)
			return a->order[i];
	}
	return NO_INDEX;
}

/* Returns the free index that was last used longest ago, or NO_INDEX. */
static uint16_t find_free(const struct rule_counters *counters, const struct assignment *a)
{
	uint16_t found = NO_INDEX, i;

	for (i = 0; i < TPROXY_RULE_COUNTERS_MAX; i++) {
		if (a->taken[i] || a->in_force[i])
			continue;
		if (found == NO_INDEX ||
		    counters->texts[i].generation < counters->texts[found].generation)
			found = i;
	}
	return found;
}

static int clear_count(int stats_fd, __u32 index)
{
	_cleanup_free_ struct tproxy_rule_stat *zero = NULL;
	int cpus = libbpf_num_possible_cpus();

	if (cpus < 0)
		return cpus;
	zero = calloc((size_t)cpus, sizeof(*zero));
	return zero ? bpf_map_update_elem(stats_fd, &index, zero, BPF_ANY) : -ENOMEM;
}

/* Copies a rule's text. A text that is cut ends with three dots. */
static void copy_text(struct tproxy_rule_text *to, const char *text)
{
	static const char dots[] = " ...";
	const int n = snprintf(to->text, sizeof(to->text), "%s", text);

	if (n < 0 || (size_t)n >= sizeof(to->text))
		memcpy(to->text + sizeof(to->text) - sizeof(dots), dots, sizeof(dots));
}

static int begin_counter(struct rule_counters *counters, __u32 index, const struct rules_rule *rule,
			 uint32_t generation)
{
	struct tproxy_rule_text *text = &counters->texts[index];
	int r = clear_count(counters->stats_fd, index);

	if (r < 0)
		return r;
	*text = (struct tproxy_rule_text){
		.hash = rule->hash,
		.generation = generation,
		.line = rule->line,
		.since_ns = monotonic_kernel_ns(),
	};
	snprintf(text->name, sizeof(text->name), "%s", rule->name);
	snprintf(text->upstream, sizeof(text->upstream), "%s", rule->upstream);
	copy_text(text, rule->text);
	return bpf_map_update_elem(counters->texts_fd, &index, text, BPF_ANY);
}

int rule_counters_assign(struct rule_counters *counters, const struct rules_compiled *compiled,
			 const struct tproxy_rules *now, struct tproxy_rules *next)
{
	_cleanup_free_ uint16_t *indices = calloc(compiled->n_rules + 1, sizeof(*indices));
	struct assignment a;
	size_t i;
	int r;

	if (!indices)
		return -ENOMEM;
	begin(&a, now);
	for (i = 0; i <= compiled->n_rules; i++) {
		indices[i] = find_same(counters, &a,
				       i < compiled->n_rules ? &compiled->list[i]
							     : &compiled->by_default);
		if (indices[i] != NO_INDEX)
			a.taken[indices[i]] = true;
	}
	for (i = 0; i <= compiled->n_rules; i++) {
		if (indices[i] != NO_INDEX)
			continue;
		indices[i] = find_free(counters, &a);
		if (indices[i] == NO_INDEX)
			return -ENOSPC;
		a.taken[indices[i]] = true;
		r = begin_counter(counters, indices[i],
				  i < compiled->n_rules ? &compiled->list[i]
							: &compiled->by_default,
				  next->generation);
		if (r < 0)
			return r;
	}
	for (i = 0; i < next->n_rows; i++)
		next->rows[i].counter = indices[next->rows[i].group];
	next->default_counter = indices[compiled->n_rules];
	return 0;
}

static void mark(struct rule_counters *counters, __u32 index, const struct rules_rule *rule,
		 uint32_t generation, uint32_t before)
{
	struct tproxy_rule_text *text;

	if (index >= TPROXY_RULE_COUNTERS_MAX)
		return;
	text = &counters->texts[index];
	if (text->generation == generation)
		return;
	if (rule) {
		text->line_before = text->line;
		text->line = rule->line;
	} else if (text->generation != before) {
		text->line = text->line_before;
	}
	text->generation = generation;
	bpf_map_update_elem(counters->texts_fd, &index, text, BPF_ANY);
}

void rule_counters_mark(struct rule_counters *counters, const struct rules_compiled *compiled,
			const struct tproxy_rules *rules)
{
	size_t i;

	for (i = 0; i < rules->n_rows; i++)
		mark(counters, rules->rows[i].counter, &compiled->list[rules->rows[i].group],
		     rules->generation, 0);
	mark(counters, rules->default_counter, &compiled->by_default, rules->generation, 0);
}

void rule_counters_mark_restored(struct rule_counters *counters, const struct tproxy_rules *rules,
				 uint32_t before)
{
	size_t i;

	for (i = 0; i < rules->n_rows; i++)
		mark(counters, rules->rows[i].counter, NULL, rules->generation, before);
	mark(counters, rules->default_counter, NULL, rules->generation, before);
}
