/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The workload hold: many idle connections, kept open while something else is measured. */
#ifndef TPROXY_BENCH_HOLD_H
#define TPROXY_BENCH_HOLD_H

struct client;
struct client_options;

/*
 * The body of a client's thread: opens quota connections, with one exchange on each, so that they
 * are established end to end. They stay open until the process ends.
 */
void hold_open(struct client *c);

/*
 * Main thread, after all clients have succeeded. Keeps the connections until the parent process
 * writes to stdin or closes it, or the time is up. Then checks that each of them still works.
 * Returns the exit status: 0, or 1 with a reason on stderr.
 */
int hold_keep(struct client *clients, const struct client_options *options);

#endif
