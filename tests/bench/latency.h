/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The workloads that measure how long an exchange or a connection takes: rr, crr, connect, shape,
 * refused.
 * Each is the body of a client's thread. It fills client::latencies, and counts failures as
 * client_fail() does.
 */
#ifndef TPROXY_BENCH_LATENCY_H
#define TPROXY_BENCH_LATENCY_H

struct client;

/* Exchanges on one connection, until the quota is reached, the time is up (client::done) or one
 * fails. */
void latency_rr(struct client *c);
/* Exchanges of options->shape, with the same limits. There must be one client only. */
void latency_shape(struct client *c);
/* Connect, exchange and close, as often as the quota. Goes on after a failure, up to a limit. */
void latency_crr(struct client *c);
/* connect() that must fail with ECONNREFUSED, as often as the quota. Ends at the first that does
 * not. */
void latency_refused(struct client *c);
/* Connect and close, as often as the quota. Ends at the first failure. */
void latency_connect(struct client *c);

#endif
