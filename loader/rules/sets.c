// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Compiles sets, see sets.h. An LPM trie finds only the longest prefix of an address, so each
 * prefix must have the bits of all shorter prefixes that contain it. The prefixes are sorted, so a
 * prefix follows all that contain it; a stack holds these open prefixes. The sort dominates the
 * cost. The rest is linear, whatever the number of sets.
 *
 * A barrier (prefix.h) inherits no bits from the prefixes around it. It is in the array if these
 * have bits, so that the trie finds the barrier instead.
 */
#include "sets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

#define WORDS ARRAY_SIZE(((struct tproxy_set_bits *)NULL)->words)

/* A prefix of one list, before the sort. */
struct entry {
	struct tproxy_prefix prefix;
	uint32_t source; /* index in struct work.sources */
};

/* Indices of sources: a named set's own, a bit's list after these, and the barriers. */
#define SOURCE_OF_BIT(bit) (TPROXY_SETS_MAX + (bit))
#define SOURCE_BARRIER	   (2 * TPROXY_SETS_MAX)

struct work {
	struct tproxy_set_bits sources[2 * TPROXY_SETS_MAX + 1];
	struct entry *entries;
	size_t n;
};

static void set_bit(struct tproxy_set_bits *bits, size_t bit)
{
	bits->words[bit / 64] |= UINT64_C(1) << bit % 64;
}

static bool is_equal(const struct tproxy_set_bits *a, const struct tproxy_set_bits *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void add_bits(struct tproxy_set_bits *to, const struct tproxy_set_bits *from)
{
	size_t i;

	for (i = 0; i < WORDS; i++)
		to->words[i] |= from->words[i];
}

void sets_init(struct sets *sets, const struct parsed *parsed)
{
	*sets = (struct sets){ .parsed = parsed };
}

/* Returns the named set that the list consists of, or -1. */
static int only_named(const struct parsed_list *list)
{
	if (list->prefixes.n || list->n_items != 1 || list->items[0].type != PARSED_SET)
		return -1;
	return (int)list->items[0].number_first;
}

static bool has_equal_items(const struct parsed_list *a, const struct parsed_list *b)
{
	size_t i;

	for (i = 0; i < a->n_items; i++) {
		if (a->items[i].type != b->items[i].type ||
		    strcmp(a->items[i].word, b->items[i].word) != 0)
			return false;
	}
	return true;
}

/* Returns true if two lists have the same elements in the same order. */
static bool is_same_list(const struct parsed_list *a, const struct parsed_list *b)
{
	return a->n_items == b->n_items && a->prefixes.n == b->prefixes.n &&
	       has_equal_items(a, b) &&
	       (!a->prefixes.n || memcmp(a->prefixes.list, b->prefixes.list,
					 a->prefixes.n * sizeof(*a->prefixes.list)) == 0);
}

int sets_bit_of(struct sets *sets, const struct parsed_list *list)
{
	const int named = only_named(list);
	size_t i, bit;

	for (bit = 0; bit < sets->n; bit++) {
		if (named >= 0 ? !sets->bits[bit].list && sets->bits[bit].named == (size_t)named
			       : sets->bits[bit].list && is_same_list(sets->bits[bit].list, list))
			return (int)bit;
	}
	if (bit == TPROXY_SETS_MAX)
		return -ENOSPC;
	sets->n++;
	if (named >= 0)
		sets->bits[bit].named = (size_t)named;
	else
		sets->bits[bit].list = list;
	for (i = 0; i < list->n_items; i++) {
		if (list->items[i].type == PARSED_SET)
			set_bit(&sets->of_named[list->items[i].number_first], bit);
	}
	return (int)bit;
}

static size_t count_named(const struct sets *sets, size_t named)
{
	return sets->parsed->sets[named].list.prefixes.n;
}

size_t sets_count(const struct sets *sets, size_t bit)
{
	const struct parsed_list *list = sets->bits[bit].list;
	size_t i, n;

	if (!list)
		return count_named(sets, sets->bits[bit].named);
	n = list->prefixes.n;
	for (i = 0; i < list->n_items; i++) {
		if (list->items[i].type == PARSED_SET)
			n += count_named(sets, list->items[i].number_first);
	}
	return n;
}

static void add_entries(struct work *work, const struct tproxy_prefix *prefixes, size_t n,
			size_t source)
{
	size_t i;

	for (i = 0; i < n; i++) {
		struct entry *entry = &work->entries[work->n++];

		entry->prefix = prefixes[i];
		entry->source = (uint32_t)source;
	}
}

/* Collects the prefixes of all lists and the barriers. Returns 0 or -ENOMEM. */
static int collect(const struct sets *sets, struct work *work)
{
	static const struct tproxy_set_bits none;
	const struct parsed *parsed = sets->parsed;
	size_t i, n = PREFIX_BARRIERS;

	for (i = 0; i < parsed->n_sets; i++)
		n += parsed->sets[i].list.prefixes.n;
	for (i = 0; i < sets->n; i++)
		n += sets->bits[i].list ? sets->bits[i].list->prefixes.n : 0;
	work->entries = reallocarray(NULL, n, sizeof(*work->entries));
	if (!work->entries)
		return -ENOMEM;
	for (i = 0; i < parsed->n_sets; i++) {
		const struct prefixes *prefixes = &parsed->sets[i].list.prefixes;

		work->sources[i] = sets->of_named[i];
		if (!is_equal(&sets->of_named[i], &none))
			add_entries(work, prefixes->list, prefixes->n, i);
	}
	for (i = 0; i < sets->n; i++) {
		set_bit(&work->sources[SOURCE_OF_BIT(i)], i);
		if (sets->bits[i].list)
			add_entries(work, sets->bits[i].list->prefixes.list,
				    sets->bits[i].list->prefixes.n, SOURCE_OF_BIT(i));
	}
	add_entries(work, prefix_barriers, PREFIX_BARRIERS, SOURCE_BARRIER);
	return 0;
}

/* The open prefixes: each contains the prefix above it in the stack. */
struct open {
	struct {
		struct tproxy_prefix prefix;
		struct tproxy_set_bits bits;
	} stack[PREFIX_BITS_MAX + 1];
	size_t depth;
};

/*
 * Closes the prefixes that do not contain @prefix. Returns the bits of the innermost one that does.
 */
static struct tproxy_set_bits bits_around(struct open *open, const struct tproxy_prefix *prefix)
{
	while (open->depth && !prefix_is_within(prefix, &open->stack[open->depth - 1].prefix))
		open->depth--;
	return open->depth ? open->stack[open->depth - 1].bits : (struct tproxy_set_bits){};
}

static void emit(struct sets_prefixes *to, struct open *open, const struct tproxy_prefix *prefix,
		 const struct tproxy_set_bits *bits)
{
	open->stack[open->depth].prefix = *prefix;
	open->stack[open->depth++].bits = *bits;
	to->prefixes[to->n] = *prefix;
	to->bits[to->n++] = *bits;
}

/* Goes through the sorted entries. */
static void sweep(const struct work *work, struct sets_prefixes *to)
{
	struct open open = {};
	size_t i = 0, next;

	for (; i < work->n; i = next) {
		const struct tproxy_prefix *prefix = &work->entries[i].prefix;
		struct tproxy_set_bits own = {}, around = bits_around(&open, prefix);
		bool barrier = false;

		for (next = i;
		     next < work->n && prefix_compare(prefix, &work->entries[next].prefix) == 0;
		     next++) {
			barrier = barrier || work->entries[next].source == SOURCE_BARRIER;
			add_bits(&own, &work->sources[work->entries[next].source]);
		}
		if (!barrier || next > i + 1)
			to->names_loopback = to->names_loopback || prefix_is_loopback(prefix);
		if (!barrier)
			add_bits(&own, &around);
		if (!is_equal(&own, &around))
			emit(to, &open, prefix, &own);
	}
}

int sets_compile(const struct sets *sets, struct sets_prefixes *ret)
{
	_cleanup_free_ struct work *work = calloc(1, sizeof(*work));
	struct sets_prefixes to = {};
	int r = work ? collect(sets, work) : -ENOMEM;

	if (r < 0)
		return r;
	qsort(work->entries, work->n, sizeof(*work->entries), prefix_compare);
	to.prefixes = reallocarray(NULL, work->n, sizeof(*to.prefixes));
	to.bits = reallocarray(NULL, work->n, sizeof(*to.bits));
	if (to.prefixes && to.bits)
		sweep(work, &to);
	free(work->entries);
	if (!to.prefixes || !to.bits) {
		free(to.prefixes);
		free(to.bits);
		return -ENOMEM;
	}
	*ret = to;
	return 0;
}
