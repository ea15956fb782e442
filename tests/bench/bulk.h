/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The workloads that measure throughput: bulk-up and bulk-down. Each is the body of a client's
 * thread: one stream of the pattern, for options->seconds.
 */
#ifndef TPROXY_BENCH_BULK_H
#define TPROXY_BENCH_BULK_H

struct client;

/* Sends to the server, which checks. */
void bulk_up(struct client *c);
/* Receives from the server, and checks. */
void bulk_down(struct client *c);

#endif
