/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps. Keys and values are in tproxy_abi.h; who writes and reads each is in ARCHITECTURE.md.
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
 * Hash, not LRU: an LRU map makes room by forgetting a live connection. A full map is an answer
 * that connect acts on.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TPROXY_CONNECTIONS_MAX);
	__type(key, __u64);
	__type(value, struct tproxy_conn);
} map_socks SEC(".maps");

/*
 * A socket that has an entry in map_socks has at most one here, which is made after it and deleted
 * before it. So this map cannot be full for a socket that map_socks took, and an entry that none in
 * map_socks belongs to is nobody's.
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
 * Private to the kernel half, so not in tproxy_abi.h: what a client's socket must remember itself,
 * in its storage, so that hooks which run for every socket find out with one pointer test that
 * this one is none of ours. Whatever becomes of the socket, this ends with it: connect() may fail
 * before its SYN, and no hook tells of the end of a socket that the kernel made for itself (MPTCP).
 */
struct client {
	__u32 recorded;	 /* conn is what connect() asked for, and the socket was redirected */
	__u32 published; /* map_socks and map_ports have it; before that, its source is not known */
	__u32 nowhere;	 /* bound to a device that does not exist, by client_abort() */
	__u32 reserved;
	__u64 cookie;
	__u64 listener; /* in map_listeners, 0 = not known */
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

/* Not for the programs: what the loader was asked for, so that it can be said and repaired. */
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
	__type(value, __u32);
} map_listeners SEC(".maps");

/* Signed: what a map that was made anew does not know may be taken off it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TPROXY_SHARES_MAX);
	__type(key, __u32);
	__type(value, __s64);
} map_shares SEC(".maps");

/* Not in map_config, which relays write as a whole. */
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

#endif
