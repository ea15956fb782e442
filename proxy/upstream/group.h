/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The order in which the members of a group are dialled for a connection. It does not depend on
 * health: the dial skips members that are down, so only the connections of these go elsewhere.
 *
 * FAILOVER is the order of the file. The others give each member a score, from a hash of a key and
 * the member's name and from its weight, and sort by it (weighted rendezvous hashing). The key is
 * the connection's id for WEIGHTED, the client's cgroup for HASH_CLIENT (its address if the cgroup
 * is unknown), and the destination's address for HASH_DESTINATION. If a member dies, its
 * connections are spread over the others by weight, and those of the others stay where they are.
 */
#ifndef TPROXY_GROUP_H
#define TPROXY_GROUP_H

#include <stddef.h>

#include "upstream.h"

struct tproxy_conn;
union sockaddr_any;

struct group_key {
	const union sockaddr_any *client, *dst;
	const struct tproxy_conn *conn;
};

/*
 * Sets ret_order to the upstreams to dial, the best first, and returns their number: the members of
 * a group, or the upstream itself. Pure.
 */
size_t group_order(const struct upstreams *set, struct upstream *upstream,
		   const struct group_key *key, struct upstream *ret_order[UPSTREAM_MEMBERS_MAX]);

#endif
