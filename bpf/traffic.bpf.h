/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counts the packets of a scope's sockets by cgroup, for `tproxyctl top --by traffic` and for the
 * metrics of the relay: see map_traffic and map_traffic_sums in tproxy_abi.h.
 *
 * The cgroup is that of the socket, as bpf_skb_cgroup_id() returns it: of the process that made the
 * socket, and of the listener for a connection that was accepted. Both entries of a packet are
 * found by id. Which target a cgroup is in is looked for once for each cgroup and CPU, because a
 * cgroup never moves.
 *
 * The entries are per CPU, and additions are atomic all the same: a process that sends may be
 * interrupted by a softirq that sends for the same cgroup.
 */
#ifndef TPROXY_TRAFFIC_BPF_H
#define TPROXY_TRAFFIC_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"
#include "tproxy_abi.h"

/*
 * Returns the id of the deepest cgroup above the socket's, or the socket's own, that
 * map_traffic_sums has an entry for; 0 if there is none. A global function, so that the verifier
 * walks through the loop once.
 */
__attribute__((noinline)) __u64 traffic_target(struct __sk_buff *ctx)
{
	__u64 id, found = 0;
	int level;

	for (level = 0; level < TPROXY_CGROUP_LEVELS_MAX; level++) {
		id = bpf_skb_ancestor_cgroup_id(ctx, level);
		if (!id)
			break;
		if (bpf_map_lookup_elem(&map_traffic_sums, &id))
			found = id;
	}
	return found;
}

/* Finds or makes the entry of *id. Without room it is the entry 0, which many cgroups share. */
static __always_inline struct tproxy_traffic *traffic_find(__u64 *id)
{
	struct tproxy_traffic *traffic = bpf_map_lookup_elem(&map_traffic, id);
	struct tproxy_traffic empty = {};

	if (traffic)
		return traffic;
	bpf_map_update_elem(&map_traffic, id, &empty, BPF_NOEXIST);
	traffic = bpf_map_lookup_elem(&map_traffic, id);
	if (traffic)
		return traffic;
	*id = 0;
	return bpf_map_lookup_elem(&map_traffic, id);
}

static __always_inline void traffic_add(struct tproxy_traffic *traffic, __u64 packets, __u64 bytes,
					bool in)
{
	__sync_fetch_and_add(in ? &traffic->packets_in : &traffic->packets_out, packets);
	__sync_fetch_and_add(in ? &traffic->bytes_in : &traffic->bytes_out, bytes);
}

/* Counts a packet that passes block_in, or block_out. */
static __always_inline void traffic_count(struct __sk_buff *ctx, bool in)
{
	const __u64 packets = ctx->gso_segs ? ctx->gso_segs : 1, bytes = ctx->len;
	__u64 id = bpf_skb_cgroup_id(ctx), target;
	struct tproxy_traffic *traffic = traffic_find(&id), *sum;

	target = traffic && id ? traffic->target_id : 0;
	sum = target ? bpf_map_lookup_elem(&map_traffic_sums, &target) : NULL;
	if (!sum) {
		target = traffic_target(ctx);
		sum = bpf_map_lookup_elem(&map_traffic_sums, &target);
	}
	if (sum)
		traffic_add(sum, packets, bytes, in);
	if (!traffic)
		return;
	traffic_add(traffic, packets, bytes, in);
	if (id && traffic->target_id != target)
		traffic->target_id = target;
}

#endif
