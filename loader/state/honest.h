/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Honest connect, as relays offer it: from the values of map_listeners, where each listener says
 * whether a connect() to it can wait until the destination was reached; and the rings in use.
 */
#ifndef TPROXY_STATE_HONEST_H
#define TPROXY_STATE_HONEST_H

#include <stddef.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct honest {
	struct tproxy_listener *listeners; /* owned */
	size_t n_listeners;
	unsigned int n_rings_used; /* of TPROXY_RINGS_MAX: the relay that owns them is alive */
};

/*
 * Reads the maps. They change meanwhile, so a listener may be missing. Returns 0 or -errno, not
 * logged. The caller calls honest_finish(), which accepts a zeroed structure too.
 */
int honest_read(const char *pin_dir, struct honest *ret_honest);
void honest_finish(struct honest *honest);

/* Returns the flags of all listeners in a network namespace together; @netns_cookie 0: in any. */
uint32_t honest_flags(const struct honest *honest, uint64_t netns_cookie);

/* Names what listeners with these flags offer, for JSON: "default", "on-request" or "no". */
const char *honest_name(uint32_t flags);

#endif
