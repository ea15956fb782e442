/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What client and server of tproxy-bench say to each other.
 *
 * The first byte of a connection chooses what the server does with it. Everything is in host byte
 * order: both ends are the same program on the same machine.
 */
#ifndef TPROXY_BENCH_PATTERN_H
#define TPROXY_BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op {
	OP_ECHO = 'E',	/* every byte comes back, this one too */
	OP_UP = 'U',	/* the pattern follows; at end of file the server answers a bulk_end */
	OP_DOWN = 'D',	/* the server sends the pattern until end of file, then a bulk_end */
	OP_SHAPE = 'S', /* a shape's index follows, then exchanges of this shape, see shape.h */
};

#define MESSAGE_SIZE 64

/* The last bytes of the server in a bulk transfer, in either direction. */
struct bulk_end {
	uint64_t bytes;	 /* of the pattern that the server received or sent */
	uint64_t intact; /* 1 = each of them was what it had to be */
};

/* At most this many bytes may be taken from, or compared with, the pattern at once. */
#define PATTERN_CHUNK (128 * 1024)

void pattern_init(void);

/* PATTERN_CHUNK bytes of the endless stream, from @offset on. */
const unsigned char *pattern_at(uint64_t offset);

bool pattern_matches(const unsigned char *bytes, size_t size, uint64_t offset);

#endif
