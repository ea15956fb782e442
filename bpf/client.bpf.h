/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The record of a redirected connection, from the side of the client's socket: made by connect in
 * the socket's storage, published in the maps by sockops, forgotten when the socket is closed.
 */
#ifndef TPROXY_CLIENT_BPF_H
#define TPROXY_CLIENT_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"
#include "base.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "match.bpf.h"
#include "share.bpf.h"

/* Is the peer authenticated by TCP_MD5SIG or TCP-AO? The keys are for an address, not the relay's.
 */
static __always_inline bool has_keys(struct tcp_sock *tp)
{
	const struct tcp_sock___ao *ao = (const void *)tp;

	return tp->md5sig_info || (bpf_core_field_exists(ao->ao_info) && ao->ao_info);
}

/* Where a connection is counted. */
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

/* Of the ports of a relay; NULL does not happen. */
static __always_inline __s32 *loads_at(__u32 key)
{
	struct tproxy_loads *loads = bpf_map_lookup_elem(&map_loads, &key);

	return loads ? loads->n : NULL;
}

/* What is counted of the entries that are made (1) and deleted (-1). */
static __always_inline void entries_count(const struct counted *counted, __s32 n)
{
	__s32 *loads = loads_at(counted->loads);

	if (loads)
		__sync_fetch_and_add(&loads[counted->port_index % TPROXY_PORTS_MAX], n);
	share_add(counted->shares, n);
}

static __always_inline struct counted counted_of(const struct tproxy_conn *conn)
{
	struct counted counted = { .loads = conn->loads, .port_index = conn->port_index };

	__builtin_memcpy(counted.shares, conn->shares, sizeof(counted.shares));
	return counted;
}

/*
 * Deletes the entries of a connection, in the order that map_ports asks for. Several may do so at
 * a time, and one of them counts it: true. The tuple may be another socket's by now. shares: a
 * copy, for the entry may be another connection's at once.
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

/* false: there is no room, or the client may have no more of it; then nothing is left behind. */
static __always_inline bool entries_make(const struct tproxy_tuple *tuple, __u64 cookie,
					 const struct tproxy_conn *conn)
{
	struct counted counted = counted_of(conn);

	if (!share_is_free(conn->shares) ||
	    bpf_map_update_elem(&map_socks, &cookie, conn, BPF_NOEXIST))
		return false;
	entries_count(&counted, 1);
	if (!bpf_map_update_elem(&map_ports, tuple, &cookie, BPF_NOEXIST))
		return true;
	if (!bpf_map_delete_elem(&map_socks, &cookie))
		entries_count(&counted, -1);
	return false;
}

/* What is known of a client's socket. */
static __always_inline void client_forget(struct client *client)
{
	struct counted counted = counted_of(&client->conn);
	struct tproxy_tuple tuple = {};

	if (client->published) {
		tuple_of(&client->conn, &tuple);
		entries_delete(&tuple, client->cookie, &counted);
	}
	client->published = 0;
	client->recorded = 0;
}

/*
 * The program closes its socket. The relay's side of the handshake may come later, and then looks
 * the connection up: it deletes the entries if it finds that we were here, and we do if it was.
 * Should neither be so, because it never comes, the end of the connection (STATE -> CLOSE) does.
 */
static __always_inline void client_released(struct client *client, bool syn_sent)
{
	struct tproxy_conn *conn;

	if (client->published && !syn_sent) {
		conn = bpf_map_lookup_elem(&map_socks, &client->cookie);
		if (conn &&
		    !(__sync_fetch_and_or(&conn->flags, TPROXY_CONN_CLOSED) & TPROXY_CONN_TAKEN))
			return;
	}
	client_forget(client);
}

#endif
