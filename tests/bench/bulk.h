/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The workloads that measure throughput, and pieces of such a transfer. bulk_up() and bulk_down()
 * are bodies of a client's thread: one stream of the pattern, for options->seconds.
 */
#ifndef TPROXY_BENCH_BULK_H
#define TPROXY_BENCH_BULK_H

#include <stdint.h>

struct client;

/* How many bytes of the pattern a connection has moved in pieces. */
struct bulk_offsets {
	uint64_t up;
	uint64_t down;
};

/* Sends to the server, which checks. */
void bulk_up(struct client *c);
/* Receives from the server, and checks. */
void bulk_down(struct client *c);

/*
 * Sends @up bytes of the pattern and receives @down on a connection that was made for pieces.
 * @offsets are zero before the first one. Returns 0 or -1, and counts the failure.
 */
int bulk_piece(struct client *c, int fd, uint64_t up, uint64_t down, struct bulk_offsets *offsets);

#endif
