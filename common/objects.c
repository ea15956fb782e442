// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tables of pinned maps and hooks, see objects.h.
 *
 * A relay writes the maps with 0660, and may read those with 0640. Maps with 0600 are for the BPF
 * programs and root. A relay attaches the program pick to its listeners, for which it needs no
 * privilege but the descriptor.
 *
 * getsockopt and the sweep are attached only where relays run, so that calls of other programs do
 * not pass through them. The hooks of UDP are attached only while a rule is about UDP, because
 * egress costs each packet of a scope, those of TCP too. So do block_in and block_out, which are
 * attached only while the block list has entries or traffic is counted. They are attached where
 * relays run too, because a relay's sockets carry the packets of redirected connections.
 */
#include "objects.h"

#include <stdio.h>
#include <string.h>

#include "tproxy_abi.h"

/* clang-format off */
const struct pinned_map pinned_maps[_PINNED_MAP_MAX] = {
	[PINNED_POLICY] = { "map_policy", sizeof(__u32), sizeof(struct tproxy_policy), 0640 },
	[PINNED_CONFIG] = { "map_config", sizeof(__u64), sizeof(struct tproxy_relay), 0660 },
	[PINNED_MARKS] = { "map_marks", sizeof(int), sizeof(struct tproxy_mark), 0660 },
	[PINNED_FAILED] = { "map_failed", sizeof(struct tproxy_failed_key),
			    sizeof(struct tproxy_failed), 0660 },
	[PINNED_SOCKS] = { "map_socks", sizeof(__u64), sizeof(struct tproxy_conn), 0640 },
	[PINNED_PORTS] = { "map_ports", sizeof(struct tproxy_tuple), sizeof(__u64), 0640 },
	[PINNED_STATS] = { "map_stats", sizeof(__u32), sizeof(__u64), 0640 },
	[PINNED_CLIENTS] = { "map_clients", sizeof(int), 0, 0600 },
	[PINNED_LISTENERS] = { "map_listeners", sizeof(__u64), sizeof(struct tproxy_listener),
			       0640 },
	[PINNED_NEWEST] = { "map_newest", sizeof(struct tproxy_newest_key), sizeof(__u64), 0600 },
	[PINNED_LOADS] = { "map_loads", sizeof(__u32), sizeof(struct tproxy_loads), 0600 },
	[PINNED_SHARES] = { "map_shares", sizeof(__u32), sizeof(__s64), 0600 },
	[PINNED_STRAYED] = { "map_strayed", sizeof(struct tproxy_strayed_key), sizeof(__u64), 0600 },
	[PINNED_SWEEP] = { "map_sweep", sizeof(__u64), sizeof(struct tproxy_sweep), 0600 },
	[PINNED_TARGETS] = { "map_targets", sizeof(__u32), sizeof(struct tproxy_target), 0640 },
	[PINNED_RULES] = { "map_rules", sizeof(__u32), sizeof(__u32), 0600 },
	[PINNED_SETS] = { "map_sets", sizeof(__u32), sizeof(__u32), 0600 },
	[PINNED_RULES_ACTIVE] = { "map_rules_active", sizeof(__u32), sizeof(struct tproxy_rules),
				  0640 },
	[PINNED_SETS_ACTIVE] = { "map_sets_active", sizeof(struct tproxy_prefix),
				 sizeof(struct tproxy_set_bits), 0640 },
	[PINNED_RULE_STATS] = { "map_rule_stats", sizeof(__u32), sizeof(struct tproxy_rule_stat),
				0640 },
	[PINNED_RULE_TEXTS] = { "map_rule_texts", sizeof(__u32), sizeof(struct tproxy_rule_text),
				0640 },
	[PINNED_SET_TEXTS] = { "map_set_texts", sizeof(__u32), sizeof(struct tproxy_set_text), 0640 },
	[PINNED_CGROUP_BITS] = { "map_cgroup_bits", sizeof(struct tproxy_cgroup_key), sizeof(__u64),
				 0600 },
	[PINNED_OBSERVED] = { "map_observed", sizeof(__u64), sizeof(struct tproxy_observed), 0640 },
	[PINNED_OBSERVED_SLOTS] = { "map_observed_slots", sizeof(__u32),
				    sizeof(struct tproxy_observed_slot), 0640 },
	/* A ring buffer has no key and no value. Its reader writes its own position. */
	[PINNED_EVENTS] = { "map_events", 0, 0, 0660 },
	[PINNED_UDP] = { "map_udp", sizeof(int), 0, 0600 },
	[PINNED_INTEREST] = { "map_interest", sizeof(__u32), sizeof(struct tproxy_interest), 0600 },
	[PINNED_WATCH_RINGS] = { "map_watch_rings", sizeof(__u32), sizeof(__u32), 0600 },
	[PINNED_CAPTURE] = { "map_capture", sizeof(__u32), sizeof(__u64), 0600 },
	[PINNED_FLOWS] = { "map_flows", sizeof(struct tproxy_flow_key), sizeof(struct tproxy_flow),
			   0600 },
	[PINNED_BLOCK] = { "map_block", sizeof(__u32), sizeof(struct tproxy_block), 0640 },
	[PINNED_BLOCK_TRIES] = { "map_block_tries", sizeof(__u32), sizeof(__u32), 0600 },
	[PINNED_BLOCK_0] = { "map_block_0", sizeof(struct tproxy_prefix),
			     sizeof(struct tproxy_block_entry), 0600 },
	[PINNED_ALLOW_0] = { "map_allow_0", sizeof(struct tproxy_prefix),
			     sizeof(struct tproxy_block_entry), 0600 },
	[PINNED_BLOCK_1] = { "map_block_1", sizeof(struct tproxy_prefix),
			     sizeof(struct tproxy_block_entry), 0600 },
	[PINNED_ALLOW_1] = { "map_allow_1", sizeof(struct tproxy_prefix),
			     sizeof(struct tproxy_block_entry), 0600 },
	[PINNED_BLOCK_TEXTS] = { "map_block_texts", sizeof(__u32), sizeof(struct tproxy_block_text),
				 0600 },
	[PINNED_BLOCK_STATS] = { "map_block_stats", sizeof(__u32), sizeof(struct tproxy_block_stat),
				 0640 },
	[PINNED_TRAFFIC] = { "map_traffic", sizeof(__u64), sizeof(struct tproxy_traffic), 0640 },
	[PINNED_TRAFFIC_SUMS] = { "map_traffic_sums", sizeof(__u64), sizeof(struct tproxy_traffic),
				  0640 },
	[PINNED_PENDING] = { "map_pending", sizeof(__u32), sizeof(struct tproxy_pending), 0660 },
	[PINNED_VERDICTS] = { "map_verdicts", sizeof(__u32), sizeof(__u64), 0660 },
	[PINNED_RINGS] = { "map_rings", sizeof(__u32), sizeof(__u32), 0600 },
	[PINNED_RING_OWNERS] = { "map_ring_owners", sizeof(__u32), sizeof(struct tproxy_ring),
				 0660 },
	[PINNED_PAIRS] = { "map_pairs", sizeof(__u32), sizeof(__u64), 0660 },
};

const struct pinned_map pinned_ring = { "tproxy_ring", 0, 0, 0660 };

const struct hook hooks[_HOOK_MAX] = {
	[HOOK_RELEASE] = { "release", "cgroup/sock_release", BPF_PROG_TYPE_CGROUP_SOCK,
			   BPF_CGROUP_INET_SOCK_RELEASE, .scope = true },
	[HOOK_GETPEER4] = { "getpeer4", "cgroup/getpeername4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			    BPF_CGROUP_INET4_GETPEERNAME, .scope = true },
	[HOOK_GETPEER6] = { "getpeer6", "cgroup/getpeername6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			    BPF_CGROUP_INET6_GETPEERNAME, .scope = true },
	[HOOK_SOCKOPT] = { "sockopt", "cgroup/getsockopt", BPF_PROG_TYPE_CGROUP_SOCKOPT,
			   BPF_CGROUP_GETSOCKOPT, .relay = true },
	[HOOK_SWEEP] = { "sweep", "cgroup/bind4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			 BPF_CGROUP_INET4_BIND, .relay = true },
	/* Pinned but not attached: bpffs_sweep() runs it with BPF_PROG_TEST_RUN. */
	[HOOK_SWEEP_NOW] = { "sweep_now", "tc", BPF_PROG_TYPE_SCHED_CLS,
			     .scope = false },
	[HOOK_EGRESS] = { "egress", "cgroup_skb/egress", BPF_PROG_TYPE_CGROUP_SKB,
			  BPF_CGROUP_INET_EGRESS, .scope = true, .need = HOOK_NEED_UDP },
	[HOOK_SENDMSG4] = { "sendmsg4", "cgroup/sendmsg4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			    BPF_CGROUP_UDP4_SENDMSG, .scope = true, .need = HOOK_NEED_UDP },
	[HOOK_SENDMSG6] = { "sendmsg6", "cgroup/sendmsg6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			    BPF_CGROUP_UDP6_SENDMSG, .scope = true, .need = HOOK_NEED_UDP },
	[HOOK_BLOCK_IN] = { "block_in", "cgroup_skb/ingress", BPF_PROG_TYPE_CGROUP_SKB,
			    BPF_CGROUP_INET_INGRESS, .scope = true, .relay = true,
			    .need = HOOK_NEED_BLOCK },
	[HOOK_BLOCK_OUT] = { "block_out", "cgroup_skb/egress", BPF_PROG_TYPE_CGROUP_SKB,
			     BPF_CGROUP_INET_EGRESS, .scope = true, .relay = true,
			     .need = HOOK_NEED_BLOCK },
	/* Pinned, and attached to interfaces instead of cgroups. */
	[HOOK_XDP] = { "xdp", "xdp.frags", BPF_PROG_TYPE_XDP, BPF_XDP, .scope = false },
	/* Pinned, and attached by relays to their listeners. */
	[HOOK_PICK] = { "pick", "sk_reuseport", BPF_PROG_TYPE_SK_REUSEPORT,
			BPF_SK_REUSEPORT_SELECT, .scope = false, .opened = true },
	[HOOK_SOCKOPS] = { "sockops", "sockops", BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS,
			   .scope = true, .relay = true },
	[HOOK_CONNECT4] = { "connect4", "cgroup/connect4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			    BPF_CGROUP_INET4_CONNECT, .scope = true },
	[HOOK_CONNECT6] = { "connect6", "cgroup/connect6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			    BPF_CGROUP_INET6_CONNECT, .scope = true },
};
/* clang-format on */

const struct pinned_map *pinned_map_by_name(const char *name)
{
	size_t i;

	for (i = 0; i < _PINNED_MAP_MAX; i++) {
		if (strcmp(pinned_maps[i].name, name) == 0)
			return &pinned_maps[i];
	}
	return NULL;
}

void pinned_ring_name(uint32_t ring, char name[PINNED_RING_LEN])
{
	snprintf(name, PINNED_RING_LEN, PINNED_RING_PREFIX "%u", ring);
}

static bool is_ring(const char *name)
{
	char ring[PINNED_RING_LEN];
	uint32_t i;

	if (strncmp(name, PINNED_RING_PREFIX, strlen(PINNED_RING_PREFIX)) != 0)
		return false;
	for (i = 0; i < TPROXY_RINGS_MAX; i++) {
		pinned_ring_name(i, ring);
		if (strcmp(name, ring) == 0)
			return true;
	}
	return false;
}

const struct pinned_map *pinned_map_of_pin(const char *name)
{
	static const enum pinned_map_id replaced[] = {
		PINNED_RULES_ACTIVE, PINNED_SETS_ACTIVE, PINNED_BLOCK_0,
		PINNED_ALLOW_0,	     PINNED_BLOCK_1,	 PINNED_ALLOW_1,
	};
	size_t i, len;

	if (strcmp(name, PINNED_PREVIOUS) == 0)
		return &pinned_maps[PINNED_RULES_ACTIVE];
	if (strcmp(name, PINNED_PREVIOUS_SETS) == 0)
		return &pinned_maps[PINNED_SETS_ACTIVE];
	if (is_ring(name))
		return &pinned_ring;
	for (i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++) {
		len = strlen(pinned_maps[replaced[i]].name);
		if (strncmp(name, pinned_maps[replaced[i]].name, len) == 0 &&
		    strcmp(name + len, PINNED_STAGED) == 0)
			return &pinned_maps[replaced[i]];
	}
	return pinned_map_by_name(name);
}

const struct hook *hook_by_name(const char *name)
{
	size_t i;

	for (i = 0; i < _HOOK_MAX; i++) {
		if (strcmp(hooks[i].name, name) == 0)
			return &hooks[i];
	}
	return NULL;
}

const struct hook *hook_of_program(const char *name)
{
	size_t i, len;

	if (strncmp(name, "prog_", 5) != 0)
		return NULL;
	name += 5;
	for (i = 0; i < _HOOK_MAX; i++) {
		len = strlen(hooks[i].name);
		if (strncmp(name, hooks[i].name, len) == 0 &&
		    (!name[len] || strcmp(name + len, PINNED_STAGED) == 0))
			return &hooks[i];
	}
	return NULL;
}
