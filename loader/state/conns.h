/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads the redirected connections from map_socks, which changes at the same time.
 * BPF_MAP_LOOKUP_BATCH visits each bucket of the hash once, whatever is added or deleted. So the
 * read ends, and returns no connection twice. A walk from key to key would start again at each key
 * that was deleted.
 */
#ifndef TPROXY_STATE_CONNS_H
#define TPROXY_STATE_CONNS_H

#include <stddef.h>

#include "tproxy_abi.h"

struct conns_entry {
	__u64 cookie; /* the cookie of the client's socket */
	struct tproxy_conn conn;
};

/*
 * Reads all connections, in no particular order. Returns 0 or -errno, not logged. The caller frees
 * *ret_entries.
 */
int conns_read(const char *pin_dir, struct conns_entry **ret_entries, size_t *ret_n);

/* Counts them. Returns 0 or -errno, not logged. */
int conns_count(int map_fd, size_t *ret_n);

#endif
