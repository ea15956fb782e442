/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The steps of sockops, one for each event in the life of a TCP socket.
 *
 * A client's socket: client_publish() runs when source and route are chosen and the SYN is not sent
 * yet. It inserts the connection into map_socks and map_ports, or stops the SYN (client_abort()).
 * It also requests the RTO and STATE callbacks of this socket. client_retransmits() then checks the
 * listener again before each retransmitted SYN, client_established() before the final ACK of the
 * handshake, and client_close() deletes the entries. A connection that waits for the relay has a
 * slot, see pending.bpf.h, and other timers, see timer.bpf.h.
 *
 * A relay's socket: listener_begins() and listener_ends() maintain map_listeners, by which the
 * client's hooks know that a listener is alive. accepted_record() copies the connection into the
 * accepted socket's mark, where getsockopt finds it even after the client has closed.
 * joiner_begins() sees the socket that the relay joins to a pending client.
 *
 * The socket of an observed connection: observe_sent(), observe_established(), observe_end(); see
 * observe.bpf.h. While a capture runs, flow_begin() and flow_end() note the addresses of
 * all of these sockets; see flow.bpf.h.
 *
 * A redirected SYN reaches the relay's own listener or nobody. Wherever the SYN could leave the
 * host, or reach a process that has bound the relay's port since, these steps stop it.
 */
#ifndef TPROXY_SOCKOPS_BPF_H
#define TPROXY_SOCKOPS_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "flow.bpf.h"
#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "observe.bpf.h"
#include "pending.bpf.h"
#include "policy.bpf.h"
#include "record.bpf.h"
#include "stats.bpf.h"
#include "timer.bpf.h"
#include "tproxy_abi.h"

/* An interface index that no device has. */
#define NOWHERE 0x7fffffff

#define LO_IS_UP     (IFF_LOOPBACK | IFF_UP)
#define CLIENT_FLAGS (BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG)

/*
 * True if the SYN would leave this host, or be dropped because lo is down. The route is already
 * chosen.
 */
static __always_inline bool strays(const struct tcp_sock *tp)
{
	const struct dst_entry *dst = tp->inet_conn.icsk_inet.sk.sk_dst_cache;

	return !dst || !dst->dev || (dst->dev->flags & LO_IS_UP) != LO_IS_UP;
}

/*
 * Returns the client's listener, or NULL if map_listeners has none for it. If the one that connect
 * found is closed, or if sockops had not seen that yet, the newest at this address takes its place:
 * where a relay is replaced at the same port, the SYN reaches any of them.
 */
static __always_inline const struct tproxy_listener *client_listener(struct client *client)
{
	const struct tproxy_listener *listener;
	struct tproxy_newest_key key = {
		.netns_cookie = client->conn.netns_cookie,
		.address = client->conn.relay,
	};
	const __u64 *newest;
	__u64 cookie;

	listener = bpf_map_lookup_elem(&map_listeners, &client->listener);
	if (listener)
		return listener;
	newest = bpf_map_lookup_elem(&map_newest, &key);
	if (!newest)
		return NULL;
	cookie = *newest;
	listener = bpf_map_lookup_elem(&map_listeners, &cookie);
	if (listener)
		client->listener = cookie;
	return listener;
}

/*
 * True if no listener is left that could serve this client. False also if sockops has not seen the
 * client's listener at listen(): nothing tells then whether it is alive.
 */
static __always_inline bool listener_is_gone(struct client *client)
{
	return client->listener && !client_listener(client);
}

/*
 * Notes that a SYN of this user would leave the host. For TPROXY_STRAYED_NS connect does not
 * redirect this user's connections.
 */
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
	__sync_fetch_and_add(&relay->unreachable, 1);
}

static __always_inline void request_callbacks(struct bpf_sock_ops *ctx, int flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

/*
 * Stops a SYN that is about to be sent, by binding the socket to a device that does not exist. The
 * kernel looks up the route once more before it sends a SYN and finds none. connect(), or the call
 * that sends the data of a deferred SYN (Fast Open), fails with EHOSTUNREACH. client_close() or the
 * next connect() removes the binding, if the process has CAP_NET_RAW. Without CAP_NET_RAW the
 * kernel unbinds no socket, not even for a BPF program, and this socket stays unusable. connect(2)
 * leaves the state of a socket unspecified after a failed connect().
 */
static __always_inline void client_abort(struct bpf_sock_ops *ctx, struct client *client)
{
	request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	client->nowhere = 1;
	set_option(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, NOWHERE);
}

/*
 * Records the source. Returns false if another connect program, which ran after tproxy's, has
 * chosen another address.
 */
static __always_inline bool goes_to_relay(struct bpf_sock_ops *ctx, struct client *client)
{
	struct tproxy_endpoint remote;

	ends_of(ctx, &client->conn.src, &remote);
	return endpoint_equal(&remote, &client->conn.relay);
}

/*
 * The other program keeps the connection, as it would without tproxy. Fail-closed does not allow
 * that: the SYN is stopped.
 */
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

/* Inserts the connection into the maps. Returns false if there is no room. */
static __always_inline bool client_insert(struct client *client, const struct tcp_sock *tp,
					  const struct tproxy_listener *listener)
{
	struct tproxy_tuple tuple = {};

	client->conn.isn = tp->write_seq;
	tuple_of(&client->conn, &tuple);
	if (listener)
		pending_begin(client, tp, listener);
	if (entries_make(&tuple, client->conn.cookie, &client->conn))
		return true;
	if (client->conn.pending) {
		pending_free(client->conn.pending, client->conn.generation);
		client->conn.pending = 0;
	}
	return false;
}

/*
 * TCP_CONNECT_CB of a relay's socket: if it joins a pending client, as its mark says, the slot
 * learns of it before the client sees the SYN.
 */
static __always_inline void joiner_begins(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	struct tproxy_endpoint local, remote;

	if (!mark || !(mark->flags & TPROXY_MARK_JOINS))
		return;
	ends_of(ctx, &local, &remote);
	if (bpf_get_netns_cookie(ctx) == mark->conn.netns_cookie &&
	    endpoint_equal(&local, &mark->conn.relay) && endpoint_equal(&remote, &mark->conn.src))
		pending_join(&mark->conn);
}

/*
 * TCP_CONNECT_CB: the source is chosen and the SYN is not sent yet. Inserts the connection into
 * map_socks and map_ports.
 */
static __always_inline void client_publish(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	const struct tproxy_listener *listener;
	struct tcp_sock *tp;

	if (!client) {
		joiner_begins(ctx, sk);
		return;
	}
	if (!client->recorded || client->published)
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
	listener = client_listener(client);
	/* With a deferred SYN (Fast Open) keys may have been set since connect(). */
	if ((client->listener && !listener) || has_keys(tp)) {
		count(TPROXY_STAT_ABORTED);
		client_abort(ctx, client);
		return;
	}
	if (!client_insert(client, tp, listener)) {
		count(TPROXY_STAT_PUBLISH_FAILED);
		client_abort(ctx, client);
		return;
	}
	client->published = 1;
	request_callbacks(ctx, CLIENT_FLAGS);
	if (client->conn.pending)
		timer_begin(ctx, client, tp);
}

/*
 * Another process than the relay has answered. The socket then sends nothing more, not even the
 * final ACK, so nobody can accept the connection. It ends with ETIMEDOUT at the first timer, which
 * is keepalive if the client sends nothing.
 */
static __always_inline void client_fall_silent(struct bpf_sock_ops *ctx, struct client *client)
{
	count(TPROXY_STAT_ABORTED);
	client_abort(ctx, client);
	set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, 1);
	set_option(ctx, SOL_TCP, TCP_KEEPIDLE, 1);
	set_option(ctx, SOL_TCP, TCP_KEEPINTVL, 1);
	set_option(ctx, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/*
 * ACTIVE_ESTABLISHED_CB: the SYN was answered and the final ACK of the handshake is not sent yet.
 * If the listener closed while the SYN was in flight, a process that has bound its port since may
 * be the one that answered.
 *
 * joined: PASSIVE_ESTABLISHED_CB of a client that has seen a SYN (simultaneous open). Only a
 * pending client may, and only that of the relay's own socket: a process of another user can bind
 * the relay's port in some cases (SECURITY.md), and send such a SYN.
 * Returns false if the socket is not a client's.
 */
static __always_inline bool client_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					       bool joined)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);

	if (!client || !client->published)
		return false;
	/* Another sockops program may have replaced the callback flags: request them again. */
	request_callbacks(ctx, CLIENT_FLAGS);
	if (client->first_timer)
		timer_end(ctx, client, /* given_up= */ false);
	if (listener_is_gone(client) ||
	    !(client->conn.pending ? pending_established(client, joined) : !joined))
		client_fall_silent(ctx, client);
	return true;
}

/*
 * True if connect() is older than TPROXY_STALE_NS. If the listener is alive then, firewall rules of
 * the host drop the segments, or the backlog is full. A relay without a heartbeat gets no new
 * connections after the same time.
 */
static __always_inline bool is_cut_off(const struct client *client)
{
	return bpf_ktime_get_ns() > client->conn.started_ns + TPROXY_STALE_NS;
}

/*
 * Makes connect() fail with ETIMEDOUT when the retransmission timer fires next. client_close()
 * restores the option.
 */
static __always_inline void client_give_up(struct bpf_sock_ops *ctx, struct client *client)
{
	client->nowhere = 1;
	set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, 1);
}

/*
 * As is_cut_off(), of a connection that waits: no SYN has reached pick, or one that the relay was
 * to accept got no answer. Where rules drop the relay's segments, it decides so when it cannot
 * join.
 */
static __always_inline bool waits_cut_off(struct client *client)
{
	const bool accepted = client->accepted;

	client->accepted = pending_is_accepted(client);
	return is_cut_off(client) && (pending_is_unseen(client) || (accepted && client->accepted));
}

/* The SYN of a connection that waits is about to be retransmitted: the sink has swallowed it. */
static __always_inline void client_waits(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					 struct client *client)
{
	const struct tproxy_ring *owner = pending_owner(client);
	const struct tcp_sock *tp;

	if (pending_has_timed_out(client)) {
		client_give_up(ctx, client);
		return;
	}
	if (!owner || waits_cut_off(client)) {
		count(TPROXY_STAT_UNANSWERED);
		client_give_up(ctx, client);
		return;
	}
	if (!client->dialled_ms && pending_is_dialled(client))
		client->dialled_ms = (bpf_ktime_get_ns() - client->conn.started_ns) / 1000000 + 1;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		timer_renew(ctx, client, tp, owner->dial_ms);
}

/*
 * RTO_CB: a SYN was not answered and is about to be retransmitted. A process that has bound the
 * relay's port since must not get it. TCP_USER_TIMEOUT ends the attempt when the timer fires next.
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
		if (client->conn.pending) {
			client_waits(ctx, sk, client);
		} else if (is_cut_off(client)) {
			count(TPROXY_STAT_UNANSWERED);
			client_give_up(ctx, client);
		}
		return;
	}
	count(TPROXY_STAT_ABORTED);
	set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, 1);
	client_abort(ctx, client);
}

/*
 * PASSIVE_ESTABLISHED_CB of a socket that a marked listener accepted: it inherited the mark. Copies
 * the connection into the mark now, because the client may close before the relay calls
 * getsockopt(). The data of a Fast Open SYN are not counted in rcv_nxt yet, so rcv_nxt - 1 is the
 * client's initial sequence number in that case too.
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
	mark->flags |= TPROXY_MARK_HAS_CONN;
	counted = counted_of(conn);
	if (__sync_fetch_and_or(&conn->flags, TPROXY_CONN_TAKEN) & TPROXY_CONN_CLOSED)
		entries_delete(&tuple, cookie, &counted);
}

/* The key of a listener in map_newest. */
static __always_inline void newest_key(struct bpf_sock_ops *ctx, struct tproxy_newest_key *key)
{
	struct tproxy_endpoint remote;

	key->netns_cookie = bpf_get_netns_cookie(ctx);
	ends_of(ctx, &key->address, &remote);
	endpoint_replace_wildcard(&key->address);
}

/*
 * TCP_LISTEN_CB of a marked socket. ATTACHED in the mark tells the relay that sockops sees the
 * connections to this listener; the entry in map_listeners tells the client's hooks that the
 * listener is alive.
 */
static __always_inline void listener_begins(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct tproxy_listener listener = {};
	struct tproxy_newest_key key = {};

	if (!mark || !(mark->flags & TPROXY_MARK_LISTENER))
		return;
	request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	listener.netns_cookie = bpf_get_netns_cookie(ctx);
	if (mark->flags & TPROXY_MARK_HONEST) {
		listener.ring = mark->ring;
		listener.pair = mark->pair;
		listener.flags = TPROXY_LISTENER_CAPABLE;
		if (mark->flags & TPROXY_MARK_HONEST_DEFAULT)
			listener.flags |= TPROXY_LISTENER_DEFAULT;
	}
	mark->listener = 0;
	if (!bpf_map_update_elem(&map_listeners, &cookie, &listener, BPF_ANY)) {
		mark->listener = cookie;
		newest_key(ctx, &key);
		bpf_map_update_elem(&map_newest, &key, &cookie, BPF_ANY);
	}
	mark->flags |= TPROXY_MARK_ATTACHED;
}

static __always_inline void listener_ends(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct tproxy_newest_key key = {};
	const __u64 *newest;

	newest_key(ctx, &key);
	newest = bpf_map_lookup_elem(&map_newest, &key);
	if (newest && *newest == cookie)
		bpf_map_delete_elem(&map_newest, &key);
	bpf_map_delete_elem(&map_listeners, &cookie);
}

static __always_inline void client_close(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	bool gave_up;

	if (!client)
		return;
	gave_up = client->nowhere;
	if (client->nowhere) {
		if (!set_option(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, 0))
			client->nowhere = 0;
		set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, (int)client->conn.user_timeout_ms);
		if (!client->conn.keep_alive)
			set_option(ctx, SOL_SOCKET, SO_KEEPALIVE, 0);
	}
	if (client->first_timer)
		timer_end(ctx, client, gave_up);
	client_forget(client);
}

/* Returns the entry of the socket, or NULL, and the socket's cookie. */
static __always_inline struct tproxy_observed *observed_of(struct bpf_sock_ops *ctx,
							   __u64 *ret_cookie)
{
	if (!is_observing())
		return NULL;
	*ret_cookie = bpf_get_socket_cookie(ctx);
	return observed_find(*ret_cookie);
}

/*
 * TCP_CONNECT_CB of an observed connection: source and destination are final. The entry keeps the
 * destination that connect() asked for, if another connect program has changed it.
 */
static __always_inline void observe_sent(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct tproxy_observed *observed;
	struct tproxy_endpoint dst;
	__u64 cookie;

	if (is_unknown(sk))
		return;
	observed = observed_of(ctx, &cookie);
	if (!observed)
		return;
	ends_of(ctx, &observed->src, &dst);
	if (!endpoint_equal(&observed->dst, &dst))
		observed->flags |= TPROXY_OBSERVED_MOVED;
	if (sk->bound_dev_if)
		observed->flags |= TPROXY_OBSERVED_DEVICE;
	observed->flags |= TPROXY_OBSERVED_SENT;
	request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Another sockops program may have replaced the callback flags: request them again. */
static __always_inline void observe_established(struct bpf_sock_ops *ctx)
{
	__u64 cookie;

	if (ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG)
		return;
	if (observed_of(ctx, &cookie))
		request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/*
 * Counts the data in both directions. Sequence numbers include the SYN and the FIN. The socket's
 * bytes_sent is not used, because it also counts segments whose retransmission failed.
 */
static __always_inline void event_count_bytes(struct tproxy_event *event, struct bpf_sock_ops *ctx,
					      const struct tcp_sock *tp)
{
	const unsigned long flags = tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags;
	const __u32 snd_nxt = ctx->snd_nxt, snd_una = ctx->snd_una;

	event->bytes_up = ctx->bytes_acked + (__u32)(snd_nxt - snd_una);
	if (event->bytes_up) /* the SYN */
		event->bytes_up--;
	if (tcp_has_queued_fin(event->state)) {
		if (snd_nxt == tp->write_seq)
			event->bytes_up--;
		if (snd_una == tp->write_seq)
			event->flags |= TPROXY_EVENT_ACKED;
	}
	event->bytes_down = ctx->bytes_received;
	if (flags & (1UL << SOCK_DONE)) {
		event->flags |= TPROXY_EVENT_FIN;
		event->bytes_down--;
	}
	if (flags & (1UL << SOCK_DEAD))
		event->flags |= TPROXY_EVENT_CLOSED;
}

/* Fills in the numbers and the error of a connection that has ended. */
static __always_inline void event_measure(struct tproxy_event *event, struct bpf_sock_ops *ctx,
					  struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	event->state = (__u8)ctx->args[0];
	/* The route was lost between TCP_CONNECT_CB and the SYN. */
	if (event->state == BPF_TCP_SYN_SENT && !ctx->segs_out)
		event->state = TPROXY_EVENT_NOT_SENT;
	event->rtt_us = ctx->srtt_us >> 3;
	event->rtt_min_us = ctx->rtt_min;
	event->retransmits = ctx->total_retrans;
	if (!tp)
		return;
	event->error = (__u16)tp->inet_conn.icsk_inet.sk.sk_err;
	event_count_bytes(event, ctx, tp);
}

static __always_inline void observe_end(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct tproxy_observed *observed;
	struct tproxy_event *event;
	__u64 cookie;

	observed = observed_of(ctx, &cookie);
	if (!observed)
		return;
	event = event_begin(cookie, observed);
	if (!event) {
		event_lose(cookie);
		return;
	}
	event_measure(event, ctx, sk);
	event_send(event, cookie);
}

#endif
