// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A hash table with linear probing, at most half full. See name_cache.h. */
#include "name_cache.h"

#include <stdbool.h>
#include <stdlib.h>

#define SIZE_FIRST 64 /* a power of two, as all sizes are */

static struct name_cache_slot *slot_of(struct name_cache_slot *slots, size_t size, uint64_t id)
{
	/* Fibonacci hashing: the upper bits of the product depend on all bits of the id. */
	size_t i = (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (size - 1);

	while (slots[i].name && slots[i].id != id)
		i = (i + 1) & (size - 1);
	return &slots[i];
}

/* Returns false without memory; the cache stays as it is. */
static bool grow(struct name_cache *cache)
{
	size_t size = cache->size ? cache->size * 2 : SIZE_FIRST, i;
	struct name_cache_slot *slots = calloc(size, sizeof(*slots));

	if (!slots)
		return false;
	for (i = 0; i < cache->size; i++) {
		if (cache->slots[i].name)
			*slot_of(slots, size, cache->slots[i].id) = cache->slots[i];
	}
	free(cache->slots);
	cache->slots = slots;
	cache->size = size;
	return true;
}

const char *name_cache_get(struct name_cache *cache, uint64_t id, const void *hint)
{
	struct name_cache_slot *slot;

	if (cache->n * 2 >= cache->size && !grow(cache))
		return "?";
	slot = slot_of(cache->slots, cache->size, id);
	if (!slot->name) {
		slot->id = id;
		slot->name = cache->lookup(id, hint);
		cache->n += slot->name != NULL;
	}
	return slot->name ? slot->name : "?";
}

void name_cache_trim(struct name_cache *cache)
{
	if (cache->n > NAME_CACHE_MAX)
		name_cache_finish(cache);
}

void name_cache_finish(struct name_cache *cache)
{
	size_t i;

	for (i = 0; i < cache->size; i++)
		free(cache->slots[i].name);
	free(cache->slots);
	cache->slots = NULL;
	cache->n = cache->size = 0;
}
