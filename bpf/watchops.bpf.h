/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The steps of sockops for watchers, see watch.bpf.h. The STATE callback is requested only while
 * a watcher is there, so a connection that began before has no end here, unless it is redirected or
 * observed: those have the callback anyway.
 *
 * The process that accepts a connection is not known: the current process is the one that was
 * interrupted. The cgroup and the user of the listening socket are, by the kernel's BTF.
 */
#ifndef TPROXY_WATCHOPS_BPF_H
#define TPROXY_WATCHOPS_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "policy.bpf.h"
#include "sockops.bpf.h"
#include "tproxy_abi.h"
#include "watch.bpf.h"

/* Returns the socket, or NULL if it is a relay's. */
static __always_inline struct tcp_sock *watch_socket(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!sk)
		return NULL;
	tp = bpf_skc_to_tcp_sock(sk);
	return tp && !is_marked_of_relay(sk) && !socket_in_relay_cgroup(tp) ? tp : NULL;
}

static __always_inline void watch_head(struct bpf_sock_ops *ctx, enum tproxy_watch_kind kind,
				       struct tproxy_watch_head *event)
{
	event->time_ns = bpf_ktime_get_ns();
	event->cookie = bpf_get_socket_cookie(ctx);
	event->kind = kind;
}

static __always_inline void watch_request(struct bpf_sock_ops *ctx)
{
	if (!(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG))
		request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* TCP_CONNECT_CB: the source is chosen. A global function, see rules_find(). */
__attribute__((noinline)) int watch_report_sent(struct bpf_sock_ops *ctx)
{
	struct tproxy_interest *interest = get_interest();
	struct tproxy_watch_sent event = {};

	if (!interest || !watch_socket(ctx))
		return 0;
	watch_head(ctx, TPROXY_WATCH_SENT, &event.head);
	ends_of(ctx, &event.src, &event.dst);
	watch_request(ctx);
	watch_write(interest, interest->watching, &event.head, sizeof(event));
	return 0;
}

static __always_inline void watch_sent(struct bpf_sock_ops *ctx)
{
	if (is_watched())
		watch_report_sent(ctx);
}

/* A global function, see rules_find(). */
__attribute__((noinline)) int watch_request_again(struct bpf_sock_ops *ctx)
{
	if (watch_socket(ctx))
		watch_request(ctx);
	return 0;
}

/* Another sockops program may have replaced the callback flags: request them again. */
static __always_inline void watch_established(struct bpf_sock_ops *ctx)
{
	if (is_watched() && !(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG))
		watch_request_again(ctx);
}

/* PASSIVE_ESTABLISHED_CB. A global function, see rules_find(). */
__attribute__((noinline)) int watch_report_accepted(struct bpf_sock_ops *ctx)
{
	struct tproxy_interest *interest = get_interest();
	const struct tcp_sock *tp = watch_socket(ctx);
	struct tproxy_watch_start event = {};

	if (!interest || !tp)
		return 0;
	watch_head(ctx, TPROXY_WATCH_ACCEPTED, &event.head);
	event.conn.started_ns = event.head.time_ns;
	event.conn.netns_cookie = bpf_get_netns_cookie(ctx);
	event.conn.cgroup_id =
		BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, kn, id);
	event.conn.uid = tp->inet_conn.icsk_inet.sk.sk_uid.val;
	ends_of(ctx, &event.conn.src, &event.conn.dst);
	watch_request(ctx);
	watch_write(interest, interest->watching & interest->inbound, &event.head, sizeof(event));
	return 0;
}

static __always_inline void watch_accepted(struct bpf_sock_ops *ctx)
{
	const struct tproxy_interest *interest = get_interest();

	if (interest && interest->watching & interest->inbound)
		watch_report_accepted(ctx);
}

/* STATE -> CLOSE of a connection. A global function, see rules_find(). */
__attribute__((noinline)) int watch_report_end(struct bpf_sock_ops *ctx)
{
	struct tproxy_interest *interest = get_interest();
	struct tproxy_watch_end event = {};
	struct bpf_sock *sk = ctx->sk;

	if (!interest || !sk || !watch_socket(ctx))
		return 0;
	watch_head(ctx, TPROXY_WATCH_ENDED, &event.head);
	event.event.cookie = event.head.cookie;
	event.event.ended_ns = event.head.time_ns;
	ends_of(ctx, &event.event.conn.src, &event.event.conn.dst);
	event_measure(&event.event, ctx, sk);
	/* event_count_bytes() has subtracted the SYN of this side, which an accepted one lacks. */
	if (ctx->bytes_acked || ctx->snd_nxt != ctx->snd_una)
		event.head.flags |= TPROXY_WATCH_COUNTED;
	watch_write(interest, interest->watching, &event.head, sizeof(event));
	return 0;
}

static __always_inline void watch_end(struct bpf_sock_ops *ctx)
{
	if (is_watched())
		watch_report_end(ctx);
}

#endif
