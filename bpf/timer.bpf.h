/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The timers of a client whose connect() is pending.
 *
 * The relay cannot tell the client of a failure: only an answer to a SYN does. So the first SYN is
 * sent again after 1/64 of a second, and then at intervals that double, as usual. TCP_SYNCNT would
 * end connect() too early then. It is set to its maximum, and TCP_USER_TIMEOUT to the time that
 * the kernel would have taken, or that after which the relay's dial has ended for sure, if this is
 * sooner: the kernel shortens the last interval to fit. Both options get back their values when
 * connect() has succeeded or failed. Values that the program itself sets in between are kept.
 */
#ifndef TPROXY_TIMER_BPF_H
#define TPROXY_TIMER_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "defs.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "slot.bpf.h"

/* Returns net.ipv4.tcp_syn_linear_timeouts, since 6.5, of the socket's network namespace. */
static __always_inline __u32 timer_linear(const struct tcp_sock *tp)
{
	const struct net *net = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net;

	if (!bpf_core_field_exists(net->ipv4.sysctl_tcp_syn_linear_timeouts))
		return 0;
	return net->ipv4.sysctl_tcp_syn_linear_timeouts;
}

/*
 * Sets TCP_USER_TIMEOUT to the time that connect() may take. user_ms: the program's own value of
 * that option, or 0. dial_ms: as in struct tproxy_ring.
 */
static __always_inline void timer_limit(struct bpf_sock_ops *ctx, struct client *client,
					const struct tcp_sock *tp, __u32 user_ms, __u32 dial_ms)
{
	const __u32 limit_ms = slot_limit_ms(client->syncnt, timer_linear(tp), user_ms);

	client->user_ms = user_ms;
	client->limit_ms = slot_dial_limit_ms(limit_ms, client->dialled_ms, dial_ms);
	set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, (int)client->limit_ms);
}

/*
 * TCP_CONNECT_CB. The kernel's first timer is one second, in jiffies: TCP_TIMEOUT_INIT. If an
 * option cannot be read or set, the kernel's timers stay.
 */
static __always_inline void timer_begin(struct bpf_sock_ops *ctx, struct client *client,
					const struct tcp_sock *tp)
{
	const __u32 second = tp->inet_conn.icsk_rto;
	int syncnt = 0;

	if (bpf_getsockopt(ctx, SOL_TCP, TCP_SYNCNT, &syncnt, sizeof(syncnt)) || syncnt <= 0 ||
	    set_option(ctx, SOL_TCP, TCP_SYNCNT, SLOT_SYNCNT_MAX))
		return;
	client->syncnt = (__u32)syncnt;
	client->dialled_ms = 0;
	client->accepted = 0;
	client->first_timer = second > SLOT_TIMER_PART ? second / SLOT_TIMER_PART : 1;
	timer_limit(ctx, client, tp, tp->inet_conn.icsk_user_timeout, /* dial_ms= */ 0);
}

/* TIMEOUT_INIT: the first timer of a SYN is about to be set. */
static __always_inline void timer_reply(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct client *client;

	if (!(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_RTO_CB_FLAG))
		return;
	client = bpf_sk_storage_get(&map_clients, sk, NULL, 0);
	if (client && client->published && client->first_timer)
		ctx->reply = client->first_timer;
}

/*
 * RTO_CB: computes the limit again, because the program may have set TCP_USER_TIMEOUT, and the
 * relay may have begun to dial or have been given another limit.
 */
static __always_inline void timer_renew(struct bpf_sock_ops *ctx, struct client *client,
					const struct tcp_sock *tp, __u32 dial_ms)
{
	const __u32 user_ms = tp->inet_conn.icsk_user_timeout;

	if (client->first_timer)
		timer_limit(ctx, client, tp,
			    user_ms == client->limit_ms ? client->user_ms : user_ms, dial_ms);
}

/* Restores both options, unless the program has set them. given_up: client_give_up() has. */
static __always_inline void timer_end(struct bpf_sock_ops *ctx, struct client *client,
				      bool given_up)
{
	int value = 0;

	client->first_timer = 0;
	if (!bpf_getsockopt(ctx, SOL_TCP, TCP_SYNCNT, &value, sizeof(value)) &&
	    value == SLOT_SYNCNT_MAX)
		set_option(ctx, SOL_TCP, TCP_SYNCNT, (int)client->syncnt);
	value = 0;
	bpf_getsockopt(ctx, SOL_TCP, TCP_USER_TIMEOUT, &value, sizeof(value));
	if (given_up || (__u32)value == client->limit_ms)
		set_option(ctx, SOL_TCP, TCP_USER_TIMEOUT, (int)client->user_ms);
}

#endif
