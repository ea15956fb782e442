/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The observed connections that have not ended, from map_observed_slots and map_observed. */
#ifndef TPROXY_OBSERVED_ENTRIES_H
#define TPROXY_OBSERVED_ENTRIES_H

#include <stdint.h>

struct tproxy_observed;

/* Called for each connection. A result other than 0 ends the walk. */
typedef int (*observed_entries_fn)(uint64_t cookie, const struct tproxy_observed *conn, void *data);

/*
 * Calls @fn for the connections of both maps, which may change meanwhile. Returns 0, the result of
 * @fn that ended the walk, or -errno.
 */
int observed_entries_walk(int slots_fd, int hash_fd, observed_entries_fn fn, void *data);

/* The same for the pins of a directory. Returns also the errors of bpffs_open_map(). */
int observed_entries_walk_pinned(const char *pin_dir, observed_entries_fn fn, void *data);

#endif
