/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The steps of sockops: what happens at each event in the life of a TCP socket.
 */
#ifndef TPROXY_EVENTS_BPF_H
#define TPROXY_EVENTS_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tproxy_abi.h"
#include "base.bpf.h"
#include "client.bpf.h"
#include "maps.bpf.h"
#include "match.bpf.h"

/* remote_port is a 32-bit load of a 16-bit field: network byte order, in the upper half. */
static __always_inline __u16 remote_port(const struct bpf_sock_ops *ctx)
{
	return (__u16)bpf_ntohl(ctx->remote_port);
}

/* Both ends of the socket, as the key's src and dst see them from the local side. */
static __always_inline void ends_of(const struct bpf_sock_ops *ctx, struct tproxy_endpoint *local,
				    struct tproxy_endpoint *remote)
{
	__be32 ip[4];

	if (ctx->family == AF_INET) {
		endpoint_set4(local, ctx->local_ip4, (__u16)ctx->local_port);
		endpoint_set4(remote, ctx->remote_ip4, remote_port(ctx));
		return;
	}
	load_words(ip, ctx->local_ip6);
	endpoint_set6(local, ip, (__u16)ctx->local_port);
	load_words(ip, ctx->remote_ip6);
	endpoint_set6(remote, ip, remote_port(ctx));
}

/* TCP_CONNECT_CB: the source is chosen and the SYN not yet sent. Make both findable. */
static __always_inline void client_publish(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	struct tproxy_conn *conn;
	__u64 cookie;

	if (!client || !client->recorded)
		return;
	cookie = bpf_get_socket_cookie(ctx);
	client->tuple.netns_cookie = bpf_get_netns_cookie(ctx);
	ends_of(ctx, &client->tuple.src, &client->tuple.dst);
	conn = bpf_map_lookup_elem(&map_socks, &cookie);
	if (conn)
		conn->src = client->tuple.src;
	if (bpf_map_update_elem(&map_ports, &client->tuple, &cookie, BPF_ANY)) {
		count(TPROXY_STAT_UNPUBLISHED);
		return;
	}
	client->published = 1;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/*
 * PASSIVE_ESTABLISHED_CB of a socket that a marked listener accepted: the mark came with it. The
 * connection is copied there now, because the client may close before the relay gets to ask.
 */
static __always_inline void accepted_record(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	struct tproxy_tuple tuple = {};
	struct tproxy_conn *conn;
	__u64 *cookie;

	if (!mark || !(mark->flags & TPROXY_MARK_LISTENER))
		return;
	tuple.netns_cookie = bpf_get_netns_cookie(ctx);
	ends_of(ctx, &tuple.dst, &tuple.src);
	cookie = bpf_map_lookup_elem(&map_ports, &tuple);
	if (!cookie)
		return;
	conn = bpf_map_lookup_elem(&map_socks, cookie);
	if (!conn)
		return;
	mark->conn = *conn;
	mark->flags |= TPROXY_MARK_RECORDED;
}

/* TCP_LISTEN_CB: tells a relay that connections to this listener will pass through sockops. */
static __always_inline void listener_confirm(struct bpf_sock *sk)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);

	if (mark && mark->flags & TPROXY_MARK_LISTENER)
		mark->flags |= TPROXY_MARK_HOOKED;
}

/*
 * The client says its end of file, most often as it closes. The next one is for the same port: its
 * worker is awake, and has one connection less. So one client after the other has one worker, and
 * those at a time are spread over all.
 */
static __always_inline void client_ends(struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	struct tproxy_relay *relay;

	if (!client || !client->published)
		return;
	relay = bpf_map_lookup_elem(&map_config, &client->tuple.netns_cookie);
	if (relay)
		relay->turn = client->turn;
}

static __always_inline void client_close(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);

	if (client)
		client_forget(client, bpf_get_socket_cookie(ctx));
}

#endif
