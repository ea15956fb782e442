/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shares of map_socks: no user and no cgroup can take all of its entries. Each connection counts
 * for its user, its cgroup and its cgroup at level 2. A user cannot leave the latter
 * (user-1000.slice), whatever cgroups it creates and whatever user IDs it takes in a user
 * namespace. A hash with a secret seed selects the counters in map_shares. Two owners may share a
 * counter, but nobody can choose with whom.
 *
 * Pure, and built by the host's compiler too, as decide.bpf.h is; record.bpf.h has the counters.
 */
#ifndef TPROXY_SHARE_BPF_H
#define TPROXY_SHARE_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "tproxy_abi.h"

/* Depth below the cgroup2 root, which is level 0. */
#define SLICE_LEVEL 2

/* Returns the index of a counter: the finalizer of splitmix64 over seed, kind of share and id. */
static inline __u16 share_index(__u64 seed, enum tproxy_share share, __u64 id)
{
	__u64 x = seed ^ (id * _TPROXY_SHARE_MAX + share);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return (x ^ (x >> 31)) % TPROXY_SHARES_MAX;
}

/* Returns the number of connections at which the share is used up. */
static inline __s64 share_limit(enum tproxy_share share)
{
	const __s64 max = TPROXY_CONNECTIONS_MAX;

	switch (share) {
	case TPROXY_SHARE_USER:
		return max / 4 * 3;
	case TPROXY_SHARE_CGROUP:
		return max / 8 * 7;
	default:
		return max / 16 * 15;
	}
}

/* True if user, cgroup and slice are all below their limits. */
static inline bool share_is_free(const __s64 connections[])
{
	enum tproxy_share share;

	for (share = 0; share < _TPROXY_SHARE_MAX; share++) {
		if (connections[share] >= share_limit(share))
			return false;
	}
	return true;
}

#endif
