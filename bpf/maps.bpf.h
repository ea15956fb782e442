/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps of the kernel half. Keys and values are in tproxy_abi.h, except struct client, which is
 * private. README.md here lists the writers, readers and file modes.
 *
 * The record of a connection moves through four of them. connect writes it to the storage of the
 * client's socket (map_clients). When the SYN is about to be sent, sockops copies it to map_socks
 * and adds the key by which the relay's side finds it to map_ports. On accept sockops copies it to
 * the storage of the accepted socket (map_marks), where getsockopt reads it.
 *
 * map_policy and map_config are the input: the loader's policy, and the relay of each network
 * namespace. map_listeners holds the live listeners. map_loads and map_shares count the entries of
 * map_socks, by relay port and by owner. map_pending has the slots of connections that wait for the
 * relay, map_verdicts its answers, map_rings its events. map_failed, map_strayed and map_sweep are
 * LRU maps: their entries may be evicted without harm.
 */
#ifndef TPROXY_MAPS_BPF_H
#define TPROXY_MAPS_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tproxy_policy);
} map_policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TPROXY_NAMESPACES_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_relay);
} map_config SEC(".maps");

/*
 * Hash, not LRU: an LRU map would evict a live connection. When this map is full, connect applies
 * the policy.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TPROXY_CONNECTIONS_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_conn);
} map_socks SEC(".maps");

/*
 * A socket with an entry in map_socks has at most one here, inserted after it and deleted before
 * it. So this map cannot be full for a socket that map_socks took, and an entry without one in
 * map_socks is stale.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TPROXY_CONNECTIONS_MAX);
	__type(key, struct tproxy_tuple);
	__type(value, __u64);
} map_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct tproxy_mark);
} map_marks SEC(".maps");

/*
 * The state of a client's socket, in the socket's storage. Private to the kernel half, therefore
 * not in tproxy_abi.h. A hook that runs for every socket needs one pointer test to rule out a
 * socket that was not redirected. The storage ends with the socket, also where no hook does:
 * connect() may fail before its SYN, and no hook reports the end of a socket that the kernel made
 * for itself (MPTCP).
 */
struct client {
	__u32 recorded;	 /* the socket was redirected; conn holds the original destination */
	__u32 published; /* map_socks and map_ports have it; conn.src is valid from here on */
	__u32 nowhere;	 /* client_abort() or client_give_up() changed options of the socket */
	/* For timer.bpf.h: jiffies; 0 = the options below are not changed. */
	__u32 first_timer;
	__u64 listener; /* key in map_listeners, 0 = unknown */
	__u32 syncnt;	/* TCP_SYNCNT and TCP_USER_TIMEOUT to be restored */
	__u32 user_ms;
	__u32 limit_ms; /* TCP_USER_TIMEOUT until then */
	/* When the relay's dial was seen to have begun, in ms since connect(); 0 = not yet. */
	__u32 dialled_ms;
	__u32 accepted; /* a SYN was sent since the relay decided to accept instead */
	__u32 reserved;
	struct tproxy_conn conn;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct client);
} map_clients SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TPROXY_FAILED_MAX);
	__type(key, struct tproxy_failed_key);
	__type(value, struct tproxy_failed);
} map_failed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, _TPROXY_STAT_MAX);
	__type(key, __u32);
	__type(value, __u64);
} map_stats SEC(".maps");

/*
 * The programs do not read this map. It holds what the loader was asked for, so that tools can show
 * it and restore it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TPROXY_TARGETS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct tproxy_target);
} map_targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TPROXY_LISTENERS_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_listener);
} map_listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TPROXY_LISTENERS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tproxy_newest_key);
	__type(value, __u64);
} map_newest SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TPROXY_PENDING_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_pending);
} map_pending SEC(".maps");

/* Apart from map_pending, because relays write it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TPROXY_PENDING_MAX);
	__type(key, __u32);
	__type(value, __u64);
} map_verdicts SEC(".maps");

/* The loader makes all rings. An instance, which redirects nothing, has none. */
struct pending_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TPROXY_RING_SIZE);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TPROXY_RINGS_MAX);
	__type(key, __u32);
	__array(values, struct pending_ring);
} map_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TPROXY_RINGS_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_ring);
} map_ring_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 2 * TPROXY_PAIRS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} map_pairs SEC(".maps");

/* Signed: connections that began before the map was recreated are subtracted from it too. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TPROXY_SHARES_MAX);
	__type(key, __u32);
	__type(value, __s64);
} map_shares SEC(".maps");

/* Separate from map_config, because a relay overwrites its whole entry there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TPROXY_LOADS_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_loads);
} map_loads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TPROXY_STRAYED_MAX);
	__type(key, struct tproxy_strayed_key);
	__type(value, __u64);
} map_strayed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TPROXY_NAMESPACES_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_sweep);
} map_sweep SEC(".maps");

/*
 * The rule set in force and the sets of its destinations; tproxy_abi.h tells how they are replaced.
 * The two maps named active are the first inner maps, and the templates of all later ones.
 */
struct rules_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tproxy_rules);
} map_rules_active SEC(".maps");

struct sets_inner {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TPROXY_PREFIXES_MAX);
	__type(key, struct tproxy_prefix);
	__type(value, struct tproxy_set_bits);
} map_sets_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct rules_inner);
} map_rules SEC(".maps") = { .values = { &map_rules_active } };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct sets_inner);
} map_sets SEC(".maps") = { .values = { &map_sets_active } };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TPROXY_RULE_COUNTERS_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_rule_stat);
} map_rule_stats SEC(".maps");

/* The programs read neither this map nor the next one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TPROXY_RULE_COUNTERS_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_rule_text);
} map_rule_texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * TPROXY_SETS_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_set_text);
} map_set_texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TPROXY_CGROUP_BITS_ENTRIES);
	__type(key, struct tproxy_cgroup_key);
	__type(value, __u64);
} map_cgroup_bits SEC(".maps");

/* Mmapable only because that aligns the slots to cache lines. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, TPROXY_OBSERVED_SLOTS);
	__type(key, __u32);
	__type(value, struct tproxy_observed_slot);
} map_observed_slots SEC(".maps");

/* Not preallocated, because it is mostly empty: it has the connections whose slot is taken. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TPROXY_OBSERVED_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_observed);
} map_observed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, TPROXY_EVENTS_SIZE);
} map_events SEC(".maps");

/*
 * The hooks of all sockets read this first, and mostly nothing else. The watchers map it into their
 * memory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tproxy_interest);
} map_interest SEC(".maps");

/* The rings of watchers, of any size. A slot without a watcher is empty. */
struct watch_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TPROXY_WATCHERS_MAX);
	__type(key, __u32);
	__array(values, struct watch_ring);
} map_watch_rings SEC(".maps");

/* Apart from map_interest, because instances share it: see loader/load/instance.c. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, _TPROXY_CAPTURE_MAX);
	__type(key, __u32);
	__type(value, __u64);
} map_capture SEC(".maps");

/* Not preallocated: empty while nobody captures. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TPROXY_FLOWS_MAX);
	__type(key, struct tproxy_flow_key);
	__type(value, struct tproxy_flow);
} map_flows SEC(".maps");

/* The hooks read this first, too. User space maps it into its memory. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tproxy_block);
} map_block SEC(".maps");

/* tproxy_abi.h tells how the tries are used and replaced. */
struct block_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TPROXY_BLOCK_ENTRIES_MAX);
	__type(key, struct tproxy_prefix);
	__type(value, struct tproxy_block_entry);
};

struct block_trie map_block_0 SEC(".maps");
struct block_trie map_allow_0 SEC(".maps");
struct block_trie map_block_1 SEC(".maps");
struct block_trie map_allow_1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2 * _TPROXY_BLOCK_KIND_MAX);
	__type(key, __u32);
	__array(values, struct block_trie);
} map_block_tries SEC(".maps") = {
	.values = { &map_block_0, &map_allow_0, &map_block_1, &map_allow_1 },
};

/* The programs do not read this map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TPROXY_BLOCK_TEXTS_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_block_text);
} map_block_texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, _TPROXY_PLACE_MAX);
	__type(key, __u32);
	__type(value, struct tproxy_block_stat);
} map_block_stats SEC(".maps");

/* Not preallocated: empty while no traffic is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TPROXY_TRAFFIC_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_traffic);
} map_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, TPROXY_TARGETS_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_traffic);
} map_traffic_sums SEC(".maps");

/* The process that rules look at. */
struct rule_process {
	__u64 comm[TPROXY_COMM_LEN / 8]; /* of the thread group leader */
	__u32 uid, gid;			 /* real ids in the initial user namespace */
};

/* A UDP socket that was connected, in its storage. Private, see udp.bpf.h. */
struct udp_connection {
	struct rule_process process; /* that connected it last */
	__u32 refused;		     /* 1: a rule refuses datagrams to a peer that it has or had */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct udp_connection);
} map_udp SEC(".maps");

#endif
