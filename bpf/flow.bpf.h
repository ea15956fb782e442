/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows: the addresses of connections, for those who capture packets. Only while `tproxyctl
 * capture` runs:
 *
 *   sockops TCP_CONNECT       flow_begin(): an entry in map_flows, before the SYN is sent
 *   sockops STATE -> CLOSE    flow_end(): notes the time in the entry
 *   getsockopt                tells the relay to name the connection of its upstream socket
 *   sweep                     flow_sweep(): deletes the entries that a killed capture has left
 *
 * The filter of captured packets (capture.bpf.c) looks up the addresses of each packet. A
 * redirected connection has two entries with one cookie: client to relay, and relay to server. The
 * relay writes the connection into the mark of its upstream socket, where flow_begin() reads it.
 *
 * While nobody captures, a hook costs one read of an array.
 */
#ifndef TPROXY_FLOW_BPF_H
#define TPROXY_FLOW_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "defs.bpf.h"
#include "endpoint.bpf.h"
#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "observe.bpf.h"
#include "policy.bpf.h"
#include "tproxy_abi.h"

/* Returns a member of map_capture. NULL cannot happen, but the verifier demands the test. */
static __always_inline __u64 *capture_at(enum tproxy_capture member)
{
	__u32 key = member;

	return bpf_map_lookup_elem(&map_capture, &key);
}

/* True if a capture runs, or has been killed or stopped. */
static __always_inline bool capture_is_noted(void)
{
	const __u64 *alive_ns = capture_at(TPROXY_CAPTURE_ALIVE_NS);

	return alive_ns && *alive_ns;
}

static __always_inline bool capture_is_alive(void)
{
	const __u64 *alive_ns = capture_at(TPROXY_CAPTURE_ALIVE_NS);

	return alive_ns && *alive_ns && bpf_ktime_get_ns() < *alive_ns + TPROXY_STALE_NS;
}

static __always_inline void flow_set_conn(struct tproxy_flow *flow, const struct tproxy_conn *conn,
					  enum tproxy_leg leg)
{
	flow->cookie = conn->cookie;
	flow->started_ns = conn->started_ns;
	flow->cgroup_id = conn->cgroup_id;
	flow->pid = conn->pid;
	flow->uid = conn->uid;
	__builtin_memcpy(flow->comm, conn->comm, sizeof(flow->comm));
	flow->src = conn->src;
	flow->dst = conn->dst;
	flow->leg = leg;
}

/*
 * A direct connection. TCP_CONNECT_CB runs in the process that has called connect(), or that sends
 * the data of a deferred SYN (Fast Open). Returns false for a socket of a relay.
 */
static __always_inline bool flow_set_direct(struct tproxy_flow *flow, const struct tcp_sock *tp,
					    const struct tproxy_flow_key *key)
{
	const struct task_struct *task = (void *)bpf_get_current_task_btf();

	if (socket_in_relay_cgroup(tp))
		return false;
	flow->started_ns = bpf_ktime_get_ns();
	flow->cgroup_id = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, kn, id);
	flow->pid = (__u32)task->tgid;
	flow->uid = tp->inet_conn.icsk_inet.sk.sk_uid.val;
	read_leader_comm(flow->comm);
	flow->src = key->local;
	flow->dst = key->remote;
	flow->leg = TPROXY_LEG_DIRECT;
	return true;
}

static __always_inline bool flow_set_observed(struct tproxy_flow *flow)
{
	const struct tproxy_observed *observed;
	__u64 cookie = flow->cookie;

	if (!is_observing())
		return false;
	observed = observed_find(cookie);
	if (!observed)
		return false;
	flow->started_ns = observed->started_ns;
	flow->cgroup_id = observed->cgroup_id;
	flow->pid = observed->pid;
	flow->uid = observed->uid;
	__builtin_memcpy(flow->comm, observed->comm, sizeof(flow->comm));
	flow->src = observed->src;
	flow->dst = observed->dst;
	flow->leg = TPROXY_LEG_OBSERVED;
	return true;
}

/*
 * Fills in the connection that a socket belongs to. Returns false if none of its packets are
 * wanted: those of a relay that serve no connection, and a SYN that is stopped.
 */
static __always_inline bool flow_set(struct tproxy_flow *flow, struct bpf_sock *sk,
				     const struct tproxy_flow_key *key)
{
	const struct client *client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	const struct tproxy_mark *mark;
	const struct tcp_sock *tp;

	if (client && client->nowhere)
		return false;
	if (client && client->published) {
		flow_set_conn(flow, &client->conn, TPROXY_LEG_CLIENT);
		return true;
	}
	mark = bpf_sk_storage_get(&map_marks, sk, NULL, 0);
	if (mark && mark->flags & TPROXY_MARK_UPSTREAM) {
		flow_set_conn(flow, &mark->conn, TPROXY_LEG_UPSTREAM);
		return mark->flags & TPROXY_MARK_HAS_CONN;
	}
	if (flow_set_observed(flow))
		return true;
	tp = bpf_skc_to_tcp_sock(sk);
	return tp && flow_set_direct(flow, tp, key);
}

static __always_inline void flow_read_key(struct bpf_sock_ops *ctx, struct tproxy_flow_key *key)
{
	key->netns_cookie = bpf_get_netns_cookie(ctx);
	ends_of(ctx, &key->local, &key->remote);
}

/*
 * TCP_CONNECT_CB, after the steps that publish the connection or stop its SYN. A global function,
 * see rules_find(). Returns 1 if the STATE callback is to be requested.
 */
__attribute__((noinline)) int flow_begin(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tproxy_flow_key key = {};
	struct tproxy_flow flow = {};
	__u64 *missed;

	if (!sk)
		return 0;
	flow_read_key(ctx, &key);
	flow.cookie = bpf_get_socket_cookie(ctx);
	if (!flow_set(&flow, sk, &key))
		return 0;
	if (capture_is_alive() && !bpf_map_update_elem(&map_flows, &key, &flow, BPF_ANY))
		return 1;
	missed = capture_at(TPROXY_CAPTURE_MISSED);
	if (missed)
		__sync_fetch_and_add(missed, 1);
	return 0;
}

/*
 * STATE -> CLOSE. No other socket can have these addresses before this one has left the table of
 * connections, so the entry is that of this socket.
 */
__attribute__((noinline)) int flow_end(struct bpf_sock_ops *ctx)
{
	struct tproxy_flow_key key = {};
	struct tproxy_flow *flow;

	flow_read_key(ctx, &key);
	flow = bpf_map_lookup_elem(&map_flows, &key);
	if (flow)
		flow->ended_ns = bpf_ktime_get_ns();
	return 0;
}

static long flow_delete(void *map, const struct tproxy_flow_key *key, struct tproxy_flow *flow,
			void *unused)
{
	struct tproxy_flow_key copy = *key;

	bpf_map_delete_elem(&map_flows, &copy);
	return 0;
}

/* Deletes what a killed capture has left. */
static __always_inline void flow_sweep(void)
{
	__u64 *alive_ns = capture_at(TPROXY_CAPTURE_ALIVE_NS);
	__u64 seen;

	if (!alive_ns)
		return;
	seen = *alive_ns;
	if (!seen || bpf_ktime_get_ns() < seen + TPROXY_STALE_NS)
		return;
	bpf_for_each_map_elem(&map_flows, flow_delete, NULL, 0);
	__sync_val_compare_and_swap(alive_ns, seen, 0);
}

#endif
