/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Shares of map_socks: no user and no cgroup can take all of its entries. Each connection counts
 * for its user, its cgroup and its cgroup at level 2. A user cannot leave the latter
 * (user-1000.slice), whatever cgroups it creates and whatever user IDs it takes in a user
 * namespace. A hash with a secret seed selects the counters in map_shares. Two owners may share a
 * counter, but nobody can choose with whom.
 */
#ifndef TPROXY_SHARE_BPF_H
#define TPROXY_SHARE_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"
#include "tproxy_abi.h"

/* Depth below the cgroup2 root, which is level 0. */
#define SLICE_LEVEL 2

/* Returns the index of a counter: the finalizer of splitmix64 over seed, kind of share and id. */
static __always_inline __u16 share_index(__u64 seed, enum tproxy_share share, __u64 id)
{
	__u64 x = seed ^ (id * _TPROXY_SHARE_MAX + share);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return (x ^ (x >> 31)) % TPROXY_SHARES_MAX;
}

/* Stores the counters of the calling process in conn, whose uid and cgroup_id are already set. */
static __always_inline void share_choose(__u64 seed, struct tproxy_conn *conn)
{
	conn->shares[TPROXY_SHARE_USER] = share_index(seed, TPROXY_SHARE_USER, conn->uid);
	conn->shares[TPROXY_SHARE_CGROUP] = share_index(seed, TPROXY_SHARE_CGROUP, conn->cgroup_id);
	conn->shares[TPROXY_SHARE_SLICE] = share_index(
		seed, TPROXY_SHARE_SLICE, bpf_get_current_ancestor_cgroup_id(SLICE_LEVEL));
}

static __always_inline __s64 *share_of(const __u16 *shares, enum tproxy_share share)
{
	__u32 key = shares[share];

	return bpf_map_lookup_elem(&map_shares, &key);
}

static __always_inline bool share_is_below(const __u16 *shares, enum tproxy_share share,
					   __s64 limit)
{
	const __s64 *used = share_of(shares, share);

	return !used || *used < limit;
}

/* True if user, cgroup and slice are all below their limits. */
static __always_inline bool share_is_free(const __u16 *shares)
{
	const __s64 max = TPROXY_CONNECTIONS_MAX;

	return share_is_below(shares, TPROXY_SHARE_USER, max / 4 * 3) &&
	       share_is_below(shares, TPROXY_SHARE_CGROUP, max / 8 * 7) &&
	       share_is_below(shares, TPROXY_SHARE_SLICE, max / 16 * 15);
}

/* Adds n to the three counters: 1 when an entry of map_socks is inserted, -1 when it is deleted. */
static __always_inline void share_add(const __u16 *shares, __s64 n)
{
	enum tproxy_share share;
	__s64 *used;

	for (share = 0; share < _TPROXY_SHARE_MAX; share++) {
		used = share_of(shares, share);
		if (used)
			__sync_fetch_and_add(used, n);
	}
}

#endif
