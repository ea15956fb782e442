/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The live connections, redirected and observed, in no particular order. The pinned list tells what
 * their sockets do, in the reader's network namespace. Root reads it in all others too, as far as
 * some process runs there. The remaining connections come from map_socks, map_observed_slots and
 * map_observed: all of them, if no list is pinned.
 */
#ifndef TPROXY_STATE_CONNECTIONS_H
#define TPROXY_STATE_CONNECTIONS_H

#include "conn_row.h"

enum connections_source {
	CONNECTIONS_LIVE, /* the list: state, bytes and round trip time of the rows that are live */
	CONNECTIONS_MAPS, /* the maps only: no row is live */
};

/*
 * Called for each connection. The row is valid during the call, and started_ns is set. A result
 * other than 0 ends it.
 */
typedef int (*connections_fn)(const struct conn_row *row, void *data);

/*
 * Calls @fn for each connection. Returns 0, the result of @fn, or -errno, not logged. *ret_source
 * tells what was read; it may be NULL. With both sources a connection is listed from its SYN on. A
 * redirected one ends when its program closes it, an observed one when TCP ends it.
 *
 * The maps may hold connections without a socket: call bpffs_sweep() first. A user who may not open
 * map_observed gets redirected connections only.
 */
int connections_read(const char *pin_dir, connections_fn fn, void *data,
		     enum connections_source *ret_source);

/* Why the list has no live numbers, for people: one sentence without a full stop. */
const char *connections_why_maps(const char *pin_dir);

#endif
