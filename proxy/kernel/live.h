/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The live connections of all relays and of observing rules: from the pinned iterator, which also
 * reads their sockets. Those of other network namespaces, and all if there is no iterator, come
 * from map_socks, map_observed_slots and map_observed.
 */
#ifndef TPROXY_LIVE_H
#define TPROXY_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conn_row.h"

struct live {
	struct conn_row *rows; /* owned */
	size_t n;
	bool more; /* there were more than were asked for */
};

/*
 * Reads some connections, most at most. netns_cookie is that of this process. Returns 0 with
 * *ret_live set, for live_finish(), or -errno. Does not log.
 */
int live_read(const char *pin_dir, uint64_t netns_cookie, size_t most, struct live *ret_live);
void live_finish(struct live *live);

#endif
