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

#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "policy.bpf.h"
#include "rulefacts.bpf.h"
#include "sockops.bpf.h"
#include "tproxy_abi.h"
#include "watch.bpf.h"

/* Returns the cgroup of a socket, as a number: see rules_cgroup_bits(). */
static __always_inline __u64 watch_cgroup(const struct tcp_sock *tp)
{
	return (__u64)tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup;
}

/* True if the socket was made in the relay cgroup or below it. */
static __always_inline bool is_of_relay_cgroup(const struct tcp_sock *tp)
{
	const struct cgroup *cgroup = (const struct cgroup *)watch_cgroup(tp), *ancestor;
	const struct tproxy_policy *policy = get_policy();
	const struct kernfs_node *kn;
	__u32 level;

	if (!policy || !policy->relay_cgroup_id)
		return false;
	level = policy->relay_cgroup_level;
	if (BPF_CORE_READ(cgroup, level) < (int)level)
		return false;
	ancestor = (void *)read_kernel(__builtin_preserve_access_index(&cgroup->ancestors[level]));
	kn = (void *)read_kernel(__builtin_preserve_access_index(&ancestor->kn));
	return read_kernel(__builtin_preserve_access_index(&kn->id)) == policy->relay_cgroup_id;
}

/* True if the socket belongs to a relay: it is marked, or was made in the relay cgroup. */
static __always_inline bool is_of_relay(struct bpf_sock *sk, const struct tcp_sock *tp)
{
	const struct tproxy_mark *mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);

	if (mark && mark->flags & (TPROXY_MARK_UPSTREAM | TPROXY_MARK_LISTENER))
		return true;
	return is_of_relay_cgroup(tp);
}

static __always_inline void watch_request(struct bpf_sock_ops *ctx)
{
	if (!(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG))
		request_callbacks(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* TCP_CONNECT_CB: the source is chosen. A global function, see rules_find(). */
__attribute__((noinline)) int watch_report_sent(struct bpf_sock_ops *ctx)
{
	struct tproxy_watching *state = watching();
	struct tproxy_watch_sent event = {};
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!state || !sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || is_of_relay(sk, tp))
		return 0;
	event.head.time_ns = bpf_ktime_get_ns();
	event.head.cookie = bpf_get_socket_cookie(ctx);
	event.head.kind = TPROXY_WATCH_SENT;
	ends_of(ctx, &event.src, &event.dst);
	watch_request(ctx);
	watch_write(state, state->slots, &event.head, sizeof(event));
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
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && !is_of_relay(sk, tp))
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
	struct tproxy_watching *state = watching();
	struct tproxy_watch_start event = {};
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!state || !sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || is_of_relay(sk, tp))
		return 0;
	event.head.time_ns = bpf_ktime_get_ns();
	event.head.cookie = bpf_get_socket_cookie(ctx);
	event.head.kind = TPROXY_WATCH_ACCEPTED;
	event.conn.started_ns = event.head.time_ns;
	event.conn.netns_cookie = bpf_get_netns_cookie(ctx);
	event.conn.cgroup_id = BPF_CORE_READ((struct cgroup *)watch_cgroup(tp), kn, id);
	event.conn.uid = tp->inet_conn.icsk_inet.sk.sk_uid.val;
	ends_of(ctx, &event.conn.src, &event.conn.dst);
	watch_request(ctx);
	watch_write(state, state->slots & state->inbound, &event.head, sizeof(event));
	return 0;
}

static __always_inline void watch_accepted(struct bpf_sock_ops *ctx)
{
	const struct tproxy_watching *state = watching();

	if (state && state->slots & state->inbound)
		watch_report_accepted(ctx);
}

/* STATE -> CLOSE of a connection. A global function, see rules_find(). */
__attribute__((noinline)) int watch_report_end(struct bpf_sock_ops *ctx)
{
	struct tproxy_watching *state = watching();
	struct tproxy_watch_end event = {};
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!state || !sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || is_of_relay(sk, tp))
		return 0;
	event.head.time_ns = bpf_ktime_get_ns();
	event.head.cookie = bpf_get_socket_cookie(ctx);
	event.head.kind = TPROXY_WATCH_ENDED;
	event.event.cookie = event.head.cookie;
	event.event.ended_ns = event.head.time_ns;
	ends_of(ctx, &event.event.conn.src, &event.event.conn.dst);
	event_measure(&event.event, ctx, sk);
	/* event_count_bytes() has subtracted the SYN of this side, which an accepted one lacks. */
	if (ctx->bytes_acked || ctx->snd_nxt != ctx->snd_una)
		event.head.flags |= TPROXY_WATCH_COUNTED;
	watch_write(state, state->slots, &event.head, sizeof(event));
	return 0;
}

static __always_inline void watch_end(struct bpf_sock_ops *ctx)
{
	if (is_watched())
		watch_report_end(ctx);
}

#endif
