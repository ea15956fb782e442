/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The live connections, redirected and observed, in no particular order: from the pinned iterator,
 * which also reads their sockets, or from map_socks and map_observed if there is no iterator.
 */
#ifndef TPROXY_STATE_CONNECTIONS_H
#define TPROXY_STATE_CONNECTIONS_H

#include "conn_row.h"

enum connections_source {
	CONNECTIONS_LIVE, /* the iterator: state, bytes and round trip time too */
	CONNECTIONS_MAPS, /* the maps: row->live is false */
};

/* Called for each connection; the row is valid during the call. A result other than 0 ends it. */
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
