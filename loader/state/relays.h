/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The registrations of relays in map_config, copied from the map. */
#ifndef TPROXY_STATE_RELAYS_H
#define TPROXY_STATE_RELAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tproxy_abi.h"

/* A registration, copied from the map. */
struct relays_entry {
	__u64 netns_cookie;
	struct tproxy_relay relay;
	bool shut_out; /* in a served cgroup, but it may no longer open the pins */
};

/*
 * Copies all registrations. A walk over the map cannot continue from a deleted key, so copy before
 * deleting. Returns how many; the caller frees *ret_list, which is NULL if there is no memory.
 */
size_t relays_read(int map_fd, struct relays_entry **ret_list);

/*
 * Returns true if the relay may open pins of group @gid, as it does every second. Returns true also
 * if that cannot be found out, and for a proxy that tproxyctl has registered, which never opens
 * them.
 */
bool relays_can_open(const struct tproxy_relay *relay, gid_t gid);

/* Returns how many relays are registered. */
size_t relays_count(int map_fd);

#endif
