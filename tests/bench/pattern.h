/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The protocol between client and server of tproxy-bench.
 *
 * The first byte of a connection selects what the server does with it. Everything is in host byte
 * order: both ends are the same program on the same machine.
 */
#ifndef TPROXY_BENCH_PATTERN_H
#define TPROXY_BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op {
	OP_ECHO = 'E',	 /* every byte is echoed, including this one */
	OP_UP = 'U',	 /* the pattern follows; at EOF the server answers with a bulk_end */
	OP_DOWN = 'D',	 /* the server sends the pattern until EOF, then a bulk_end */
	OP_PIECES = 'P', /* a bulk_piece and its bytes follow; once answered, another */
	OP_SHAPE =
		'S', /* the index of a shape follows, then exchanges of this shape, see shape.h */
};

#define MESSAGE_SIZE 64

/* The server's last bytes in a bulk transfer, in either direction. */
struct bulk_end {
	uint64_t bytes;	 /* bytes of the pattern received or sent by the server */
	uint64_t intact; /* 1 = every byte was correct */
};

/*
 * A request of OP_PIECES: the client sends this many bytes of the pattern, and the server this many
 * once it has them. A wrong byte, or one too many, resets the connection.
 */
struct bulk_piece {
	uint64_t up;
	uint64_t down; /* not 0 */
};

/* At most this many bytes of the pattern may be read or compared at once. */
#define PATTERN_CHUNK (128 * 1024)

void pattern_init(void);

/* Returns PATTERN_CHUNK bytes of the stream, starting at @offset. The memory is static. */
const unsigned char *pattern_at(uint64_t offset);

bool pattern_matches(const unsigned char *bytes, size_t size, uint64_t offset);

#endif
