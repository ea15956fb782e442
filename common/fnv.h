/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * FNV-1a, a hash for tables and ids. It has no secret: whoever chooses the input can make values
 * collide. Ids that rules and maps carry are made with it, so its values must never change.
 */
#ifndef TPROXY_FNV_H
#define TPROXY_FNV_H

#include <stddef.h>
#include <stdint.h>

/* The hash of no bytes. */
#define FNV32_BASIS UINT32_C(0x811c9dc5)
#define FNV64_BASIS UINT64_C(0xcbf29ce484222325)

/* Returns the hash of all bytes so far: hash is that of the bytes before the len bytes at data. */
static inline uint32_t fnv32(uint32_t hash, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * UINT32_C(0x01000193);
	return hash;
}

/* The same with 64 bits. */
static inline uint64_t fnv64(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
