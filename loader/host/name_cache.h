/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A cache of names by number, such as those of users or cgroups (names.h). Many connections share a
 * few names, and each lookup takes long. A name that was looked up once stays, also if the user or
 * the cgroup is removed.
 */
#ifndef TPROXY_HOST_NAME_CACHE_H
#define TPROXY_HOST_NAME_CACHE_H

#include <stddef.h>
#include <stdint.h>

/* Names that are kept at most. */
#define NAME_CACHE_MAX 16384

struct name_cache_slot {
	uint64_t id;
	char *name; /* NULL: free */
};

struct name_cache {
	char *(*lookup)(uint64_t id, const void *hint); /* returns a text to free(), or NULL */
	struct name_cache_slot *slots;
	size_t n, size;
};

/*
 * Returns the name, or "?" without memory. @hint is passed to lookup() if the name is not kept. The
 * result is valid until name_cache_trim() or name_cache_finish().
 */
const char *name_cache_get(struct name_cache *cache, uint64_t id, const void *hint);

/* Forgets all names if there are too many. Call it now and then. */
void name_cache_trim(struct name_cache *cache);

/* Frees the names; the cache can be used again. For use with _cleanup_(). */
void name_cache_finish(struct name_cache *cache);

#endif
