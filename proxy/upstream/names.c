// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * See names.h. The lines are an array, in the file's order. A hash table finds them by their key:
 * `example.org` has the key "example.org", `*.example.org` has ".example.org", and `*` has "". No
 * two of these forms have the same key. Lines with the same key are a chain, in the file's order.
 *
 * A name has one key for each of its labels, the whole name and "". names_find() looks up all of
 * them, and the lowest index wins. The hash is calculated from the end of a key to its start, so
 * one pass over the name gives the hashes of all its keys.
 *
 * The table has at least twice as many slots as lines, and a step of linear probing is one slot.
 */
#include "names.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errno_name.h"
#include "escape.h"
#include "fnv.h"
#include "host_name.h"
#include "upstream_id.h"
#include "util.h"

#define NO_LINE	    UINT32_MAX
#define LEAST_SLOTS 16

struct line {
	char *key; /* owned */
	uint32_t hash;
	uint32_t same; /* the next line with this key, or NO_LINE */
	/* Of the first line with a key: the last one, and the first one that always decides. */
	uint32_t last, final;
	enum names_action action;
	char via[UPSTREAM_NAME_LEN];
	uint32_t upstream;
	int error;
	unsigned int number; /* in the file */
};

struct names {
	_Atomic uint32_t refs;
	struct line *lines; /* owned */
	size_t n, room;
	uint32_t *slots; /* owned: the first line with a key, or NO_LINE */
	size_t n_slots;	 /* a power of 2 */
};

static uint32_t hash_of(const char *key)
{
	uint32_t hash = FNV32_BASIS;
	size_t i;

	for (i = strlen(key); i > 0; i--)
		hash = fnv32(hash, &key[i - 1], 1);
	return hash;
}

/* Returns the slot of the key: that of its first line, or the empty one for it. */
static uint32_t *find_slot(const struct names *names, const char *key, uint32_t hash)
{
	size_t i = hash & (names->n_slots - 1);
	const struct line *line;

	for (; names->slots[i] != NO_LINE; i = (i + 1) & (names->n_slots - 1)) {
		line = &names->lines[names->slots[i]];
		if (line->hash == hash && strcmp(line->key, key) == 0)
			break;
	}
	return &names->slots[i];
}

static bool make_slots(struct names *names, size_t n_slots)
{
	uint32_t *slots = reallocarray(NULL, n_slots, sizeof(*slots)), *old = names->slots;
	size_t i, n_old = names->n_slots;

	if (!slots)
		return false;
	for (i = 0; i < n_slots; i++)
		slots[i] = NO_LINE;
	names->slots = slots;
	names->n_slots = n_slots;
	for (i = 0; i < n_old; i++) {
		const struct line *line = old[i] == NO_LINE ? NULL : &names->lines[old[i]];

		if (line)
			*find_slot(names, line->key, line->hash) = old[i];
	}
	free(old);
	return true;
}

/* Makes room for one more line and its slot. */
static bool grow(struct names *names)
{
	struct line *lines;

	if (names->n == names->room) {
		lines = reallocarray(names->lines, names->room * 2 + 8, sizeof(*lines));
		if (!lines)
			return false;
		names->lines = lines;
		names->room = names->room * 2 + 8;
	}
	if (2 * (names->n + 1) <= names->n_slots)
		return true;
	return make_slots(names, names->n_slots ? names->n_slots * 2 : LEAST_SLOTS);
}

/* True if a name that gets to the line gets no further: see judge() in name_policy.c. */
static bool is_final(const struct line *line)
{
	return line->action == NAMES_REFUSE || (line->action == NAMES_VIA && !*line->key);
}

/* Adds a line. Takes over its key. There is room. */
static void append(struct names *names, const struct line *line)
{
	uint32_t *slot, i = (uint32_t)names->n++;
	struct line *first;

	names->lines[i] = *line;
	names->lines[i].hash = hash_of(line->key);
	names->lines[i].same = NO_LINE;
	names->lines[i].last = i;
	names->lines[i].final = is_final(line) ? i : NO_LINE;
	slot = find_slot(names, line->key, names->lines[i].hash);
	if (*slot == NO_LINE) {
		*slot = i;
		return;
	}
	first = &names->lines[*slot];
	names->lines[first->last].same = i;
	first->last = i;
	if (first->final == NO_LINE)
		first->final = names->lines[i].final;
}

static int wrong(char error[NAMES_ERROR_LEN], const char *what, const char *text,
		 const char *expected)
{
	char shown[160];

	escape_text(text, strlen(text), shown, sizeof(shown));
	snprintf(error, NAMES_ERROR_LEN, "%s \"%s\": expected %s", what, shown, expected);
	return -EINVAL;
}

static int parse_pattern(const char *pattern, char key[HOST_NAME_LEN], char error[NAMES_ERROR_LEN])
{
	char name[HOST_NAME_LEN] = "";
	const bool below = pattern[0] == '*' && pattern[1] == '.';
	const char *rest = below ? pattern + 2 : pattern;

	if (strcmp(pattern, "*") != 0 && !host_name_copy(name, rest, strlen(rest)))
		return wrong(error, "name", pattern,
			     "a host name, \"*.\" and a host name, or \"*\"");
	/* The key has the dot, and a name has at most HOST_NAME_MAX_LEN bytes: both fit. */
	snprintf(key, HOST_NAME_LEN, "%s%.*s", below ? "." : "", HOST_NAME_MAX_LEN, name);
	return 0;
}

static int parse_refuse(const char *name, struct line *line, char error[NAMES_ERROR_LEN])
{
	char expected[ERRNO_NAMES_LEN];

	line->action = NAMES_REFUSE;
	line->error = *name ? errno_from_name(name) : ECONNREFUSED;
	if (line->error)
		return 0;
	return wrong(error, "errno", name, errno_names(expected));
}

static int parse_action(const char *action, struct line *line, char error[NAMES_ERROR_LEN])
{
	static const char spaces[] = " \t";
	const size_t len = strcspn(action, spaces);
	const char *operand = action + len + strspn(action + len, spaces);

	if (len == 6 && strncmp(action, "refuse", len) == 0)
		return parse_refuse(operand, line, error);
	if (len == 6 && strncmp(action, "direct", len) == 0 && !*operand) {
		line->action = NAMES_DIRECT;
		return 0;
	}
	if (len == 3 && strncmp(action, "via", len) == 0 &&
	    upstream_name_is_valid(operand, strlen(operand))) {
		line->action =
			strcmp(operand, UPSTREAM_NAME_DIRECT) == 0 ? NAMES_DIRECT : NAMES_VIA;
		strcpy(line->via, operand);
		line->upstream = upstream_id(operand);
		return 0;
	}
	return wrong(error, "action", action, "\"via NAME\", \"direct\" or \"refuse [ERRNO]\"");
}

/* Returns the first line with the key whose index is from or higher, or NO_LINE. */
static uint32_t find_key(const struct names *names, const char *key, uint32_t hash, size_t from)
{
	uint32_t i = *find_slot(names, key, hash);

	while (i != NO_LINE && i < from)
		i = names->lines[i].same;
	return i;
}

/* Returns the first line with the key that always decides, or NO_LINE. from is not used. */
static uint32_t find_final(const struct names *names, const char *key, uint32_t hash, size_t from)
{
	const uint32_t i = *find_slot(names, key, hash);

	return i == NO_LINE ? NO_LINE : names->lines[i].final;
}

/* Returns the lowest index that find() returns for the keys of a name, or of a key. */
static uint32_t find_first(const struct names *names, const char *name,
			   uint32_t (*find)(const struct names *, const char *, uint32_t, size_t),
			   size_t from)
{
	uint32_t hash = FNV32_BASIS, best = find(names, "", hash, from), found;
	size_t i;

	for (i = strlen(name); i > 0; i--) {
		hash = fnv32(hash, &name[i - 1], 1);
		if (name[i - 1] != '.' && i > 1)
			continue;
		found = find(names, name + i - 1, hash, from);
		if (found < best)
			best = found;
	}
	return best;
}

/* Refuses a line that no name gets to. One with the same action does no harm: lists are merged. */
static int check_effect(const struct names *names, const struct line *line, const char *key,
			char error[NAMES_ERROR_LEN])
{
	const uint32_t i = find_first(names, key, find_final, 0);
	const struct line *before = i == NO_LINE ? NULL : &names->lines[i];

	if (!before || (before->action == line->action && before->upstream == line->upstream &&
			before->error == line->error))
		return 0;
	snprintf(error, NAMES_ERROR_LEN,
		 "without effect: line %u matches the same names, and always decides; remove one, "
		 "or exchange them",
		 before->number);
	return -EINVAL;
}

int names_parse_line(struct names **names, unsigned int line, const char *pattern,
		     const char *action, char error[NAMES_ERROR_LEN])
{
	struct line new = { .number = line };
	char key[HOST_NAME_LEN];

	if (parse_pattern(pattern, key, error) < 0 || parse_action(action, &new, error) < 0)
		return -EINVAL;
	if (!*names) {
		*names = calloc(1, sizeof(**names));
		if (!*names)
			return -ENOMEM;
		(*names)->refs = 1;
	}
	if (!grow(*names))
		return -ENOMEM;
	if (check_effect(*names, &new, key, error) < 0)
		return -EINVAL;
	new.key = strdup(key);
	if (!new.key)
		return -ENOMEM;
	append(*names, &new);
	return 0;
}

struct names *names_ref(struct names *names)
{
	if (names)
		atomic_fetch_add_explicit(&names->refs, 1, memory_order_relaxed);
	return names;
}

void names_unref(struct names *names)
{
	size_t i;

	if (!names || atomic_fetch_sub_explicit(&names->refs, 1, memory_order_acq_rel) > 1)
		return;
	for (i = 0; i < names->n; i++)
		free(names->lines[i].key);
	free(names->lines);
	free(names->slots);
	free(names);
}

size_t names_count(const struct names *names)
{
	return names ? names->n : 0;
}

void names_get(const struct names *names, size_t i, struct names_match *ret)
{
	const struct line *line = &names->lines[i];

	assert(i < names->n);
	*ret = (struct names_match){
		.action = line->action,
		.via = line->via,
		.upstream = line->upstream,
		.error = line->error,
		.any = !*line->key,
		.line = line->number,
		.next = i + 1,
	};
}

void names_find(const struct names *names, const char *name, size_t from, struct names_match *ret)
{
	uint32_t best;

	*ret = (struct names_match){ .action = NAMES_NONE };
	if (!names || from >= names->n)
		return;
	best = find_first(names, name, find_key, from);
	if (best != NO_LINE)
		names_get(names, best, ret);
}
