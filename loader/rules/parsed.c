// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The memory of a parsed rule file, see parsed.h. Arrays double when they are full. */
#include "parsed.h"

#include <stdlib.h>
#include <string.h>

/* Makes room for one more element. Returns the zeroed element, or NULL. */
static void *add_element(void **array, size_t *n, size_t *room, size_t size)
{
	char *grown;

	if (*n == *room) {
		grown = reallocarray(*array, *room ? 2 * *room : 4, size);
		if (!grown)
			return NULL;
		*array = grown;
		*room = *room ? 2 * *room : 4;
	}
	return memset((char *)*array + (*n)++ * size, 0, size);
}

struct parsed_item *parsed_add_item(struct parsed_list *list)
{
	void *items = list->items;
	struct parsed_item *item =
		add_element(&items, &list->n_items, &list->room, sizeof(*list->items));

	list->items = items;
	return item;
}

struct parsed_conditions *parsed_add_unless(struct parsed_rule *rule)
{
	struct parsed_conditions *grown =
		reallocarray(rule->unless, rule->n_unless + 1, sizeof(*rule->unless));

	if (!grown)
		return NULL;
	rule->unless = grown;
	return memset(&grown[rule->n_unless++], 0, sizeof(*grown));
}

struct parsed_set *parsed_add_set(struct parsed *parsed)
{
	void *sets = parsed->sets;
	struct parsed_set *set =
		add_element(&sets, &parsed->n_sets, &parsed->sets_room, sizeof(*parsed->sets));

	parsed->sets = sets;
	return set;
}

struct parsed_rule *parsed_add_rule(struct parsed *parsed)
{
	void *rules = parsed->rules;
	struct parsed_rule *rule =
		add_element(&rules, &parsed->n_rules, &parsed->rules_room, sizeof(*parsed->rules));

	parsed->rules = rules;
	return rule;
}

bool parsed_is_empty(const struct parsed_conditions *conditions)
{
	size_t i;

	for (i = 0; i < _PARSED_CONDITION_MAX; i++) {
		if (conditions->lists[i].given && !conditions->lists[i].any)
			return false;
	}
	return true;
}

static void list_finish(struct parsed_list *list)
{
	size_t i;

	for (i = 0; i < list->n_items; i++)
		free(list->items[i].word);
	free(list->items);
	prefixes_finish(&list->prefixes);
}

static void conditions_finish(struct parsed_conditions *conditions)
{
	size_t i;

	for (i = 0; i < _PARSED_CONDITION_MAX; i++)
		list_finish(&conditions->lists[i]);
}

static void rule_finish(struct parsed_rule *rule)
{
	size_t i;

	conditions_finish(&rule->conditions);
	for (i = 0; i < rule->n_unless; i++)
		conditions_finish(&rule->unless[i]);
	free(rule->unless);
	free(rule->text);
}

void parsed_finish(struct parsed *parsed)
{
	size_t i;

	for (i = 0; i < parsed->n_sets; i++) {
		list_finish(&parsed->sets[i].list);
		free(parsed->sets[i].file);
	}
	free(parsed->sets);
	for (i = 0; i < parsed->n_rules; i++)
		rule_finish(&parsed->rules[i]);
	free(parsed->rules);
	rule_finish(&parsed->by_default);
	*parsed = (struct parsed){};
}
