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
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "match.bpf.h"

/* The index of a device that does not exist. */
#define NOWHERE 0x7fffffff

#define LO_IS_UP     (IFF_LOOPBACK | IFF_UP)
#define CLIENT_FLAGS (BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG)

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

/* Would the SYN leave this host, or be lost in it? The route is chosen. */
static __always_inline bool strays(const struct tcp_sock *tp)
{
	const struct dst_entry *dst = tp->inet_conn.icsk_inet.sk.sk_dst_cache;

	return !dst || !dst->dev || (dst->dev->flags & LO_IS_UP) != LO_IS_UP;
}

/* The listener that connect has found, is it still there? One whose listen() we saw, that is. */
static __always_inline bool listener_is_gone(const struct client *client)
{
	return client->listener && !bpf_map_lookup_elem(&map_listeners, &client->listener);
}

/* Connect asks no more, for a time, whether this user's connections reach the relay. */
static __always_inline void note_stray(const struct client *client)
{
	struct tproxy_strayed_key key = {
		.netns_cookie = client->conn.netns_cookie,
		.uid = client->conn.uid,
	};
	struct tproxy_relay *relay = bpf_map_lookup_elem(&map_config, &key.netns_cookie);
	__u64 now_ns = bpf_ktime_get_ns();

	bpf_map_update_elem(&map_strayed, &key, &now_ns, BPF_ANY);
	if (!relay)
		return;
	relay->strayed_ns = now_ns;
	__sync_fetch_and_add(&relay->missed, 1);
}

static __always_inline void ask_for(struct bpf_sock_ops *ctx, int flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

static __always_inline long set_option(struct bpf_sock_ops *ctx, int level, int name, int value)
{
	return bpf_setsockopt(ctx, level, name, &value, sizeof(value));
}

/*
 * Stops a SYN that is about to go. The kernel looks for the route once more before it sends one,
 * and there is none by a device that does not exist. connect(), or what sends the data of a
 * deferred SYN, fails with EHOSTUNREACH. client_close() takes the device back, or the next
 * connect() does, if the process has CAP_NET_RAW: without it the kernel unbinds no socket (not for
 * programs of ours either), and this one is of no use any more, as connect(2) says of one that
 * failed.
 */
static __always_inline void client_abort(struct bpf_sock_ops *ctx, struct client *client)
{
	ask_for(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	client->nowhere = 1;
	set_option(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, NOWHERE);
}

/* Notes the source. False: another program on connect, after ours, has chosen another address. */
static __always_inline bool goes_to_relay(struct bpf_sock_ops *ctx, struct client *client)
{
	struct tproxy_endpoint remote;

	ends_of(ctx, &client->conn.src, &remote);
	return endpoint_equal(&remote, &client->conn.relay);
}

/* The connection is the other program's, as it would be without ours; but not past the policy. */
static __always_inline void client_leaves(struct bpf_sock_ops *ctx, struct client *client)
{
	const struct tproxy_policy *policy = get_policy();

	if (policy && policy->flags & TPROXY_FAIL_CLOSED) {
		count(TPROXY_STAT_ABORTED);
		client_abort(ctx, client);
		return;
	}
	client->recorded = 0;
}

/* TCP_CONNECT_CB: the source is chosen and the SYN not yet sent. Make both findable. */
static __always_inline void client_publish(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	struct tproxy_tuple tuple = {};
	struct tcp_sock *tp;

	if (!client || !client->recorded || client->published)
		return;
	if (!goes_to_relay(ctx, client)) {
		client_leaves(ctx, client);
		return;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || strays(tp)) {
		note_stray(client);
		count(TPROXY_STAT_ABORTED);
		client_abort(ctx, client);
		return;
	}
	/* Keys may have come since connect() if the SYN was deferred (Fast Open). */
	if (listener_is_gone(client) || has_keys(tp)) {
		count(TPROXY_STAT_ABORTED);
		client_abort(ctx, client);
		return;
	}
	client->conn.isn = tp->write_seq;
	tuple_of(&client->conn, &tuple);
	if (!entries_make(&tuple, client->cookie, &client->conn)) {
		count(TPROXY_STAT_UNPUBLISHED);
		client_abort(ctx, client);
		return;
	}
	client->published = 1;
	ask_for(ctx, CLIENT_FLAGS);
}

/*
 * ACTIVE_ESTABLISHED_CB: the SYN was answered, and nothing has gone since. If the listener closed
 * while the SYN was under way, whoever has bound its port may be the one that answers. Then nothing
 * goes any more, not even the last segment of the handshake, so that nobody can accept this; and
 * the connection ends with ETIMEDOUT by the first timer, that of keepalive if the client is silent.
 */
static __always_inline void client_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);

	if (!client || !client->published)
		return;
	/* Other people's programs may have put their own flags in place of ours. */
	ask_for(ctx, CLIENT_FLAGS);
	if (!listener_is_gone(client))
		return;
	count(TPROXY_STAT_ABORTED);
	client_abort(ctx, client);
	set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, 1);
	set_option(ctx, SOL_TCP, TCP_KEEPIDLE, 1);
	set_option(ctx, SOL_TCP, TCP_KEEPINTVL, 1);
	set_option(ctx, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/*
 * The listener is there, and nothing comes from it: rules of the host keep the two apart, or it has
 * no room. A relay that is silent for so long gets nothing new either.
 */
static __always_inline bool is_cut_off(const struct client *client)
{
	return bpf_ktime_get_ns() > client->conn.started_ns + TPROXY_STALE_NS;
}

/* connect() fails with ETIMEDOUT at the next tick of the timer. client_close() takes that back. */
static __always_inline void client_give_up(struct bpf_sock_ops *ctx, struct client *client)
{
	count(TPROXY_STAT_UNANSWERED);
	client->nowhere = 1;
	set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, 1);
}

/*
 * RTO_CB: a SYN was not answered and is about to go again. Whoever has bound the relay's port since
 * must not get it. The timeout ends the attempt at the next tick of the timer.
 */
static __always_inline void client_retransmits(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client;

	if (ctx->state != BPF_TCP_SYN_SENT)
		return;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (!client || !client->published || client->nowhere)
		return;
	if (!listener_is_gone(client)) {
		if (is_cut_off(client))
			client_give_up(ctx, client);
		return;
	}
	count(TPROXY_STAT_ABORTED);
	set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, 1);
	client_abort(ctx, client);
}

/*
 * PASSIVE_ESTABLISHED_CB of a socket that a marked listener accepted: the mark came with it. The
 * connection is copied there now, because the client may close before the relay gets to ask. Of a
 * Fast Open the data of the SYN are not taken yet.
 */
static __always_inline void accepted_record(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	struct tproxy_tuple tuple = {};
	struct counted counted;
	struct tproxy_conn *conn;
	__u64 *found, cookie;

	if (!mark || !(mark->flags & TPROXY_MARK_LISTENER))
		return;
	tuple.netns_cookie = bpf_get_netns_cookie(ctx);
	ends_of(ctx, &tuple.dst, &tuple.src);
	tuple.isn = ctx->rcv_nxt - 1;
	found = bpf_map_lookup_elem(&map_ports, &tuple);
	if (!found)
		return;
	cookie = *found;
	conn = bpf_map_lookup_elem(&map_socks, &cookie);
	if (!conn)
		return;
	mark->conn = *conn;
	mark->flags |= TPROXY_MARK_RECORDED;
	counted = counted_of(conn);
	if (__sync_fetch_and_or(&conn->flags, TPROXY_CONN_TAKEN) & TPROXY_CONN_CLOSED)
		entries_delete(&tuple, cookie, &counted);
}

/*
 * TCP_LISTEN_CB: tells a relay that connections to this listener will pass through sockops, and
 * clients that it is there.
 */
static __always_inline void listener_begins(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	__u64 cookie = bpf_get_socket_cookie(ctx);
	__u32 one = 1;

	if (!mark || !(mark->flags & TPROXY_MARK_LISTENER))
		return;
	ask_for(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	mark->listener = bpf_map_update_elem(&map_listeners, &cookie, &one, BPF_ANY) ? 0 : cookie;
	mark->flags |= TPROXY_MARK_HOOKED;
}

static __always_inline void listener_ends(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);

	bpf_map_delete_elem(&map_listeners, &cookie);
}

static __always_inline void client_close(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);

	if (!client)
		return;
	if (client->nowhere) {
		if (!set_option(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, 0))
			client->nowhere = 0;
		set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, (int)client->conn.user_timeout_ms);
		if (!client->conn.keep_alive)
			set_option(ctx, SOL_SOCKET, SO_KEEPALIVE, 0);
	}
	client_forget(client);
}

#endif
