/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Descriptors: how many there are, and how sessions, pipes and workers share them. */
#ifndef TPROXY_CAPACITY_H
#define TPROXY_CAPACITY_H

#include <stdbool.h>
#include <stdint.h>

struct options;

/*
 * Raises the soft limit RLIMIT_NOFILE to the hard limit, because descriptors are the first limit
 * that a relay meets. Returns the number of descriptors, 2^24 at most.
 */
uint32_t capacity_raise_nofile(void);

/* Returns the number of pipes for bulk transfers per worker and its bulk worker together. */
uint32_t capacity_pipes(uint32_t nofile, uint32_t workers);

/*
 * Lowers options->workers, unless --workers was given, until half of the nofile descriptors are
 * left to connections. Returns 0, or -EMFILE if not even a few connections could be served. Logs
 * that it has lowered them, and the error.
 */
int capacity_fit(uint32_t nofile, struct options *options);

/*
 * Returns the limit of sessions for nofile descriptors: --max-connections if they suffice for it.
 * Otherwise logs that, and returns what they suffice for. tls: sessions may have a TLS bridge.
 */
uint32_t capacity_sessions(uint32_t nofile, bool tls, const struct options *options);

#endif
