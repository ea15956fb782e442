/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The endless stream of bulk transfers: 65,521 random bytes, repeated.
 *
 * The receiver compares each byte with the one expected at its offset. That detects a lost,
 * duplicated, swapped or changed byte. The period is prime, so a loss of a power of two bytes,
 * which is what a relay would lose, is never a multiple of it. It costs less than a checksum of
 * equal strength, and nothing at the sender.
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
