/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rr, crr, bulk-up and bulk-down with sockets of two cgroups, in short bursts by turns: for what
 * the programs of one cost beside those of the other.
 */
#ifndef TPROXY_BENCH_PAIR_H
#define TPROXY_BENCH_PAIR_H

#include "run.h"

struct client;
struct client_options;

/*
 * Opens cgroup.procs of both directories of "OURS,BASE", which it splits. After a failure it prints
 * a message and exits.
 */
void pair_open(char *directories, struct client_options *options);
/*
 * The body of the client's thread: options->count exchanges or connections of each cgroup, or
 * transfers for options->seconds. @workload is one of the four. Ends at the first failure.
 */
void pair_run(struct client *c, enum workload workload);
/* Prints the result of a client that has not failed as members of a JSON object. */
void pair_print(const struct client *c);

#endif
