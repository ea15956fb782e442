/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The endless stream that bulk transfers carry: 65,521 random bytes, over and over.
 *
 * The receiver compares each byte with what belongs at its place. That finds a lost, doubled,
 * swapped or changed byte (the period is prime, so no power of two that a relay would lose at once
 * is a multiple of it), costs less than a checksum that is as good, and costs the sender nothing.
 */
#include "pattern.h"

#include <string.h>

#define PATTERN_PERIOD 65521

static unsigned char pattern[PATTERN_PERIOD + PATTERN_CHUNK];

void pattern_init(void)
{
	uint64_t x = 88172645463325252ULL; /* xorshift64: any seed but 0 */

	for (size_t i = 0; i < sizeof(pattern); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		pattern[i] = i < PATTERN_PERIOD ? (unsigned char)x : pattern[i - PATTERN_PERIOD];
	}
}

const unsigned char *pattern_at(uint64_t offset)
{
	return pattern + offset % PATTERN_PERIOD;
}

bool pattern_matches(const unsigned char *bytes, size_t size, uint64_t offset)
{
	return memcmp(bytes, pattern_at(offset), size) == 0;
}
