// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See watch_totals.h. A hash table with open addressing, at most half full. */
#include "watch_totals.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "escape.h"
#include "fnv.h"
#include "host/json.h"
#include "parse.h"
#include "util.h"

#define SIZE_FIRST 256 /* a power of 2 */
#define KEYS_MAX   65536

/* Returns the slot of a key, or the free one in which it belongs. */
static struct watch_total *slot_of(struct watch_total *slots, size_t size, const char *key)
{
	size_t i = fnv64(FNV64_BASIS, key, strlen(key)) & (size - 1);

	while (*slots[i].key && strcmp(slots[i].key, key) != 0)
		i = (i + 1) & (size - 1);
	return &slots[i];
}

/* Returns false if there is no memory, or no room for one more key. */
static bool make_room(struct watch_totals *totals)
{
	const size_t size = totals->size ? 2 * totals->size : SIZE_FIRST;
	struct watch_total *slots;
	size_t i;

	if (totals->n == KEYS_MAX)
		return false;
	if (2 * (totals->n + 1) <= totals->size)
		return true;
	slots = calloc(size, sizeof(*slots));
	if (!slots)
		return false;
	for (i = 0; i < totals->size; i++) {
		if (*totals->slots[i].key)
			*slot_of(slots, size, totals->slots[i].key) = totals->slots[i];
	}
	free(totals->slots);
	totals->slots = slots;
	totals->size = size;
	return true;
}

struct watch_total *watch_totals_at(struct watch_totals *totals, const char *key)
{
	char text[WATCH_TOTAL_KEY_LEN];
	struct watch_total *total;

	snprintf(text, sizeof(text), "%s", *key ? key : "-");
	total = totals->size ? slot_of(totals->slots, totals->size, text) : NULL;
	if (total && *total->key)
		return total;
	if (!make_room(totals))
		return &totals->others;
	total = slot_of(totals->slots, totals->size, text);
	memcpy(total->key, text, sizeof(text));
	totals->n++;
	return total;
}

void watch_totals_finish(struct watch_totals *totals)
{
	free(totals->slots);
	*totals = (struct watch_totals){};
}

static int by_size(const void *a, const void *b)
{
	const struct watch_total *x = *(struct watch_total *const *)a,
				 *y = *(struct watch_total *const *)b;
	const uint64_t x_bytes = x->bytes_up + x->bytes_down, y_bytes = y->bytes_up + y->bytes_down;

	if (x_bytes != y_bytes)
		return x_bytes < y_bytes ? 1 : -1;
	if (x->connections != y->connections)
		return x->connections < y->connections ? 1 : -1;
	return strcmp(x->key, y->key);
}

/* Returns pointers to the lines in order, which the caller frees, or NULL if there is none. */
static const struct watch_total **sorted(const struct watch_totals *totals)
{
	const struct watch_total **list = calloc(totals->n ? totals->n : 1, sizeof(*list));
	size_t n = 0, i;

	for (i = 0; list && i < totals->size; i++) {
		if (*totals->slots[i].key)
			list[n++] = &totals->slots[i];
	}
	if (list)
		qsort(list, n, sizeof(*list), by_size);
	return list;
}

static void print_line(const char *key, const struct watch_total *total)
{
	char up[FORMAT_BYTES_LEN], down[FORMAT_BYTES_LEN], text[ESCAPE_LEN(WATCH_TOTAL_KEY_LEN)];

	/* A program chooses the name of its command. */
	escape_text(key, strlen(key), text, sizeof(text));
	printf("%-46s %11" PRIu64 " %8" PRIu64 " %10s %10s\n", text, total->connections,
	       total->failed, format_bytes(total->bytes_up, up),
	       format_bytes(total->bytes_down, down));
}

static void add_up(struct watch_total *to, const struct watch_total *total)
{
	to->connections += total->connections;
	to->failed += total->failed;
	to->bytes_up += total->bytes_up;
	to->bytes_down += total->bytes_down;
}

void watch_totals_print(const struct watch_totals *totals, const char *title, size_t most)
{
	_cleanup_free_ const struct watch_total **list = sorted(totals);
	struct watch_total rest = totals->others;
	char key[64];
	size_t i;

	printf("\n%-46s %11s %8s %10s %10s\n", title, "CONNECTIONS", "FAILED", "UP", "DOWN");
	for (i = 0; list && i < totals->n; i++) {
		if (i < most)
			print_line(list[i]->key, list[i]);
		else
			add_up(&rest, list[i]);
	}
	if (!rest.connections)
		return;
	snprintf(key, sizeof(key), "(%zu others)", totals->n > most ? totals->n - most : 1);
	print_line(key, &rest);
}

void watch_totals_add_json(const struct watch_totals *totals, struct json_object *to,
			   const char *member, const char *key_name)
{
	_cleanup_free_ const struct watch_total **list = sorted(totals);
	struct json_object *array = json_object_new_array(), *object;
	size_t i;

	json_object_object_add(to, member, array);
	for (i = 0; list && i < totals->n; i++) {
		object = json_object_new_object();
		json_add_string(object, key_name, list[i]->key);
		json_add_number(object, "connections", list[i]->connections);
		json_add_number(object, "failed", list[i]->failed);
		json_add_number(object, "bytes_up", list[i]->bytes_up);
		json_add_number(object, "bytes_down", list[i]->bytes_down);
		json_object_array_add(array, object);
	}
}
