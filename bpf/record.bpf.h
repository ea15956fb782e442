/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The record of a redirected connection, on the client's side. connect makes it in the socket's
 * storage, sockops publishes it in map_socks and map_ports, and it is dropped when the socket is
 * closed. entries_make() and entries_delete() keep the counters in map_loads and map_shares in step
 * with map_socks.
 */
#ifndef TPROXY_RECORD_BPF_H
#define TPROXY_RECORD_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "pending.bpf.h"
#include "share.bpf.h"
#include "tproxy_abi.h"

/*
 * True if the peer is authenticated by TCP_MD5SIG or TCP-AO. Such keys belong to the peer's
 * address, so they do not work towards the relay's.
 */
static __always_inline bool has_keys(struct tcp_sock *tp)
{
	const struct tcp_sock___ao *ao = (const void *)tp;

	return tp->md5sig_info || (bpf_core_field_exists(ao->ao_info) && ao->ao_info);
}

/* The counters that include a connection: indexes into map_shares and map_loads. */
struct counted {
	__u16 shares[_TPROXY_SHARE_MAX];
	__u16 loads, port_index;
};

static __always_inline void tuple_of(const struct tproxy_conn *conn, struct tproxy_tuple *tuple)
{
	tuple->netns_cookie = conn->netns_cookie;
	tuple->src = conn->src;
	tuple->dst = conn->relay;
	tuple->isn = conn->isn;
}

/*
 * Returns the number of connections at each port of a relay. NULL cannot happen for a valid key,
 * but the verifier demands the test.
 */
static __always_inline __s32 *loads_at(__u32 key)
{
	struct tproxy_loads *loads = bpf_map_lookup_elem(&map_loads, &key);

	return loads ? loads->n : NULL;
}

/*
 * Returns the number of connections of an owner. NULL cannot happen for a valid key, but the
 * verifier demands the test.
 */
static __always_inline __s64 *share_at(const __u16 *shares, enum tproxy_share share)
{
	__u32 key = shares[share];

	return bpf_map_lookup_elem(&map_shares, &key);
}

/* Reads the numbers of connections of user, cgroup and slice. */
static __always_inline void shares_read(const __u16 *shares, __s64 ret_connections[])
{
	enum tproxy_share share;
	const __s64 *used;

	for (share = 0; share < _TPROXY_SHARE_MAX; share++) {
		used = share_at(shares, share);
		ret_connections[share] = used ? *used : 0;
	}
}

/*
 * Adds n to the counters of a connection: 1 when its entries are inserted, -1 when they are
 * deleted.
 */
static __always_inline void entries_count(const struct counted *counted, __s32 n)
{
	__s32 *loads = loads_at(counted->loads);
	enum tproxy_share share;
	__s64 *used;

	if (loads)
		__sync_fetch_and_add(&loads[counted->port_index % TPROXY_PORTS_MAX], n);
	for (share = 0; share < _TPROXY_SHARE_MAX; share++) {
		used = share_at(counted->shares, share);
		if (used)
			__sync_fetch_and_add(used, n);
	}
}

static __always_inline struct counted counted_of(const struct tproxy_conn *conn)
{
	struct counted counted = { .loads = conn->loads, .port_index = conn->port_index };

	__builtin_memcpy(counted.shares, conn->shares, sizeof(counted.shares));
	return counted;
}

/*
 * Deletes the entries of a connection, the one in map_ports first (maps.bpf.h says why). Several
 * CPUs may do so at the same time. The one that deletes the entry in map_socks updates the counters
 * and gets true. The tuple may belong to another socket by now, hence the comparison of cookies.
 * counted must be a copy: the map's element may be reused for another connection at once.
 */
static __always_inline bool entries_delete(const struct tproxy_tuple *tuple, __u64 cookie,
					   const struct counted *counted)
{
	const __u64 *owner = bpf_map_lookup_elem(&map_ports, tuple);

	if (owner && *owner == cookie)
		bpf_map_delete_elem(&map_ports, tuple);
	if (bpf_map_delete_elem(&map_socks, &cookie))
		return false;
	entries_count(counted, -1);
	return true;
}

/*
 * Inserts both entries of a connection. Returns false if there is no room or a share is used up;
 * neither entry is left then.
 */
static __always_inline bool entries_make(const struct tproxy_tuple *tuple, __u64 cookie,
					 const struct tproxy_conn *conn)
{
	struct counted counted = counted_of(conn);
	__s64 connections[_TPROXY_SHARE_MAX];

	shares_read(conn->shares, connections);
	if (!share_is_free(connections) ||
	    bpf_map_update_elem(&map_socks, &cookie, conn, BPF_NOEXIST))
		return false;
	entries_count(&counted, 1);
	if (!bpf_map_update_elem(&map_ports, tuple, &cookie, BPF_NOEXIST))
		return true;
	if (!bpf_map_delete_elem(&map_socks, &cookie))
		entries_count(&counted, -1);
	return false;
}

/* Drops the record of a client's socket, and its entries if they were published. */
static __always_inline void client_forget(struct client *client)
{
	struct counted counted = counted_of(&client->conn);
	struct tproxy_tuple tuple = {};

	if (client->published) {
		tuple_of(&client->conn, &tuple);
		entries_delete(&tuple, client->conn.cookie, &counted);
	}
	if (client->conn.pending) {
		pending_give_up(client->conn.pending, client->conn.generation);
		client->conn.pending = 0;
	}
	client->published = 0;
	client->recorded = 0;
}

/*
 * The client has closed its socket. The relay's side of the handshake may complete later, and still
 * needs the entries. Two atomic flags decide who deletes them: accepted_record() does if CLOSED was
 * set before it set TAKEN, this function does if TAKEN was set before it set CLOSED. If the relay's
 * side never completes, client_close() deletes them at STATE -> CLOSE. A socket in SYN_SENT has no
 * relay's side that could still read the entries, so they are deleted here.
 */
static __always_inline void client_released(struct client *client, bool syn_sent)
{
	struct tproxy_conn *conn;

	if (client->published && !syn_sent) {
		conn = bpf_map_lookup_elem(&map_socks, &client->conn.cookie);
		if (conn &&
		    !(__sync_fetch_and_or(&conn->flags, TPROXY_CONN_CLOSED) & TPROXY_CONN_TAKEN))
			return;
	}
	client_forget(client);
}

#endif
