// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Compiles a parsed rule file whose names are looked up, see compile.h. The members of struct
 * rules_compiled come from:
 *
 *   rules.rows          rows.c: in the order of the file, for each rule the rows of its exceptions,
 *                       then one row for each combination of its lists
 *   rules.cgroup_tests  rows.c: one test for each cgroup that a rule names
 *   rules.index         index.c: from the rows
 *   sets                sets.c: one bit for each different list of addresses
 *   prefixes, bits      sets.c: the prefixes of all sets, sorted, each with the bits of its sets
 *   list, by_default    this file: text, hash, name and line of each rule, for the tools
 *
 * The number of rows is checked before any row is written, the number of prefixes at the end.
 */
#include "compile.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index.h"
#include "parsed.h"
#include "rows.h"
#include "rules.h"
#include "sets.h"
#include "source.h"
#include "text.h"
#include "upstream_id.h"
#include "util.h"

/* Checks that all rows fit. Returns 0 or -EINVAL. */
static int check_rows(const struct source *source, const struct parsed *parsed)
{
	const struct parsed_rule *largest = NULL;
	uint64_t total = 0;
	char text[256];
	size_t i;

	for (i = 0; i < parsed->n_rules; i++) {
		total += rows_count(&parsed->rules[i]);
		if (!largest || rows_count(&parsed->rules[i]) > rows_count(largest))
			largest = &parsed->rules[i];
	}
	if (total <= TPROXY_RULES_MAX)
		return 0;
	source_error(source, largest->at,
		     "expected at most %d rows in all, found %llu; a rule takes one for each "
		     "combination of its lists, and this one most: %u (%s)",
		     TPROXY_RULES_MAX, (unsigned long long)total, rows_count(largest),
		     rows_explain(largest, text, sizeof(text)));
	return -EINVAL;
}

int rules_keep_upstream(struct tproxy_rules *rules, const char *name)
{
	size_t i;

	for (i = 0; i < TPROXY_RULE_UPSTREAMS_MAX; i++) {
		if (strcmp(rules->upstreams[i], name) == 0)
			return 0;
		if (!*rules->upstreams[i]) {
			strcpy(rules->upstreams[i], name);
			return 0;
		}
	}
	return -ENOSPC;
}

const char *rules_find_upstream(const struct tproxy_rules *rules, uint32_t id)
{
	size_t i;

	for (i = 0; i < TPROXY_RULE_UPSTREAMS_MAX && *rules->upstreams[i]; i++) {
		if (memchr(rules->upstreams[i], '\0', TPROXY_UPSTREAM_NAME_LEN) &&
		    upstream_id(rules->upstreams[i]) == id)
			return rules->upstreams[i];
	}
	return NULL;
}

static int keep_upstream(const struct source *source, const struct parsed_rule *rule,
			 struct tproxy_rules *rules)
{
	if (!*rule->upstream || rules_keep_upstream(rules, rule->upstream) == 0)
		return 0;
	source_error(source, rule->at, "expected at most %d different upstreams in all rules",
		     TPROXY_RULE_UPSTREAMS_MAX);
	return -EINVAL;
}

/* Moves text, name, upstream and line of a rule. Returns 0 or -ENOMEM. */
static int describe_rule(struct parsed_rule *rule, struct rules_rule *ret)
{
	*ret = (struct rules_rule){ .line = rule->at.line, .text = TAKE_PTR(rule->text) };
	if (!ret->text)
		return -ENOMEM;
	ret->hash = text_hash(ret->text);
	strcpy(ret->name, rule->name);
	strcpy(ret->upstream, rule->upstream);
	return 0;
}

static int compile_list(const struct source *source, struct parsed *parsed, struct sets *sets,
			struct rules_compiled *compiled)
{
	struct tproxy_rules *rules = &compiled->rules;
	size_t i;
	int r;

	compiled->list = calloc(parsed->n_rules + 1, sizeof(*compiled->list));
	if (!compiled->list)
		return -ENOMEM;
	for (i = 0; i < parsed->n_rules; i++) {
		struct parsed_rule *rule = &parsed->rules[i];
		struct rules_rule *info = &compiled->list[i];
		const __u32 first = rules->n_rows;

		r = describe_rule(rule, info);
		compiled->n_rules++;
		if (r == 0)
			r = rows_add(source, rule, (uint16_t)i, sets, rules);
		if (r == 0)
			r = keep_upstream(source, rule, rules);
		if (r < 0)
			return r;
		info->first_row = first;
		info->n_rows = rules->n_rows - first;
		compiled->has_udp = compiled->has_udp || rule->protocol == IPPROTO_UDP;
		compiled->has_observe =
			compiled->has_observe || rule->action == TPROXY_RULE_OBSERVE;
	}
	return 0;
}

static int compile_default(const struct source *source, struct parsed *parsed,
			   struct rules_compiled *compiled)
{
	struct parsed_rule *rule = &parsed->by_default;
	int r;

	if (!rule->text) {
		rule->text = strdup("default redirect");
		rule->action = TPROXY_RULE_REDIRECT;
	}
	compiled->rules.default_action = rule->action;
	compiled->rules.default_error = rule->error;
	compiled->rules.default_flags = rule->flags;
	if (*rule->upstream)
		compiled->rules.default_upstream = upstream_id(rule->upstream);
	compiled->has_observe = compiled->has_observe || rule->action == TPROXY_RULE_OBSERVE;
	if (compiled->has_udp)
		compiled->rules.needs |= TPROXY_NEEDS_UDP;
	r = keep_upstream(source, rule, &compiled->rules);
	return r < 0 ? r : describe_rule(rule, &compiled->by_default);
}

static void describe_sets(const struct sets *sets, struct rules_compiled *compiled)
{
	size_t i;

	for (i = 0; i < sets->n; i++) {
		const struct parsed_set *named;
		struct rules_set *set = &compiled->sets[i];

		set->n_prefixes = sets_count(sets, i);
		if (sets->bits[i].list) {
			set->line = sets->bits[i].list->at.line;
			snprintf(set->name, sizeof(set->name), "line %u", set->line);
		} else {
			named = &sets->parsed->sets[sets->bits[i].named];
			set->line = named->at.line;
			strcpy(set->name, named->name);
		}
	}
	compiled->n_sets = sets->n;
}

/* Returns the place of the set with the most prefixes. */
static struct rules_place largest_set(const struct sets *sets)
{
	struct rules_place at = {};
	size_t i, most = 0;

	for (i = 0; i < sets->n; i++) {
		if (sets_count(sets, i) <= most)
			continue;
		most = sets_count(sets, i);
		at = sets->bits[i].list ? sets->bits[i].list->at
					: sets->parsed->sets[sets->bits[i].named].at;
	}
	return at;
}

static int compile_prefixes(const struct source *source, const struct sets *sets,
			    struct rules_compiled *compiled)
{
	struct sets_prefixes prefixes;
	int r = sets_compile(sets, &prefixes);

	if (r < 0)
		return r;
	compiled->prefixes = prefixes.prefixes;
	compiled->bits = prefixes.bits;
	compiled->n_prefixes = prefixes.n;
	compiled->names_loopback = prefixes.names_loopback;
	if (prefixes.names_loopback)
		compiled->rules.needs |= TPROXY_NEEDS_LOOPBACK;
	if (prefixes.n <= TPROXY_PREFIXES_MAX)
		return 0;
	source_error(source, largest_set(sets),
		     "expected at most %d prefixes in all sets, found %zu; this one has most",
		     TPROXY_PREFIXES_MAX, prefixes.n);
	return -EINVAL;
}

int compile_rules(const struct source *source, struct parsed *parsed,
		  struct rules_compiled *compiled)
{
	_cleanup_free_ struct sets *sets = malloc(sizeof(*sets));
	int r = check_rows(source, parsed);

	if (!sets)
		return -ENOMEM;
	sets_init(sets, parsed);
	if (r == 0)
		r = compile_list(source, parsed, sets, compiled);
	if (r == 0)
		r = compile_default(source, parsed, compiled);
	if (r == 0)
		r = compile_prefixes(source, sets, compiled);
	if (r == 0)
		describe_sets(sets, compiled);
	if (r == 0)
		index_build(&compiled->rules);
	return r;
}

static void rule_finish(struct rules_rule *rule)
{
	free(rule->text);
}

void rules_compiled_finish(struct rules_compiled *compiled)
{
	size_t i;

	free(compiled->prefixes);
	free(compiled->bits);
	for (i = 0; i < compiled->n_rules; i++)
		rule_finish(&compiled->list[i]);
	free(compiled->list);
	rule_finish(&compiled->by_default);
	rules_messages_finish(&compiled->messages);
	*compiled = (struct rules_compiled){};
}
