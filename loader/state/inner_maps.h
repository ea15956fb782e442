/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The slots of a map of maps. A slot shows only the id of the map in it, and to open a map by its
 * id takes CAP_SYS_ADMIN. Functions return 0 or -errno, not logged.
 */
#ifndef TPROXY_STATE_INNER_MAPS_H
#define TPROXY_STATE_INNER_MAPS_H

#include <stddef.h>
#include <stdint.h>

/* Reads the id of the map in a slot. -ENOENT: the slot is empty. */
int inner_map_id(int outer_fd, uint32_t slot, uint32_t *ret_id);
/* Opens the map in a slot, by its id. */
int inner_map_open(int outer_fd, uint32_t slot, int *ret_fd);

/* The types of a map's keys and values, in an object's BTF. */
struct inner_map_types {
	int btf_fd; /* not owned; -1: not known */
	uint32_t key_id, value_id;
};
#define INNER_MAP_TYPES_NULL                                                                       \
	{                                                                                          \
		.btf_fd = -1                                                                       \
	}

/*
 * Creates an empty map of the same kind as @like_fd, which fits into the same slots. If the types
 * are not known, the types of @like_fd are used, which takes CAP_SYS_ADMIN.
 */
int inner_map_create(int like_fd, const struct inner_map_types *types, int *ret_fd);

/*
 * Adds @n entries from arrays of keys and values, whose sizes are those of the map. Stops at the
 * first entry that the kernel refuses.
 */
int inner_map_fill(int fd, const void *keys, const void *values, size_t n);

/*
 * Put a map into a slot, or empty it. When they return, no program uses the previous map: the
 * kernel waits for running programs. Emptying an empty slot returns 0.
 */
int inner_map_put(int outer_fd, uint32_t slot, int fd);
int inner_map_remove(int outer_fd, uint32_t slot);

#endif
