/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Watched connections: while `tproxyctl watch` runs, every hook reports what it sees.
 *
 *   connect        watch_connect(): the process, the destination, the verdict and its reason
 *   sockops        watchops.bpf.h: the SYN, an accepted connection, the end
 *   sock_release   watch_released(): a socket that has no connection any more, or had none
 *
 * A watcher joins these events by the cookie of the socket. There is no socket storage and no entry
 * in a map: their creation would cost more than all events of a connection together.
 *
 * Each watcher has a ring buffer of its own, in a slot of map_watch_rings, and a bit in
 * map_interest. The events wake nobody: the watchers poll. A watcher that was killed or stopped
 * does not renew its alive_ns, and the next event clears its bit.
 *
 * The sockets of relays are left out. Each of their connections is the second half of one that was
 * reported.
 */
#ifndef TPROXY_WATCH_BPF_H
#define TPROXY_WATCH_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "policy.bpf.h"
#include "tproxy_abi.h"

/* Writes an event to the rings of these watchers, a part of interest->watching. */
static __always_inline void watch_write(struct tproxy_interest *interest, __u32 slots,
					const struct tproxy_watch_head *event, __u64 size)
{
	__u32 slot, key;
	void *ring;

#pragma clang loop unroll(full)
	for (slot = 0; slot < TPROXY_WATCHERS_MAX; slot++) {
		if (!(slots & (1U << slot)))
			continue;
		if (interest->watchers[slot].alive_ns + TPROXY_WATCH_ALIVE_NS < event->time_ns) {
			__sync_fetch_and_and(&interest->watching, ~(1U << slot));
			continue;
		}
		key = slot;
		ring = bpf_map_lookup_elem(&map_watch_rings, &key);
		if (!ring || bpf_ringbuf_output(ring, (void *)event, size, BPF_RB_NO_WAKEUP))
			__sync_fetch_and_add(&interest->watchers[slot].lost, 1);
	}
}

/* The outcome of a connect() in one number, because a global function has at most 5 arguments. */
static __always_inline __u64 watch_outcome(enum tproxy_verdict verdict, __u8 reason, __u32 error)
{
	return (__u64)error << 32 | (__u32)reason << 8 | (__u32)verdict;
}

/*
 * Reports the connect() of the calling process. Call it only if is_watched(). A global function,
 * see rules_find().
 */
__attribute__((noinline)) int watch_connect(__u64 cookie, __u64 netns_cookie,
					    const struct tproxy_endpoint *dst, __u32 rule_counter,
					    __u64 outcome)
{
	struct tproxy_interest *interest = get_interest();
	struct tproxy_watch_start event = {};

	if (!interest || !dst)
		return 0;
	event.head.time_ns = bpf_ktime_get_ns();
	event.head.cookie = cookie;
	event.head.kind = TPROXY_WATCH_CONNECT;
	event.head.verdict = (__u8)outcome;
	event.head.reason = (__u8)(outcome >> 8);
	event.head.error = outcome >> 32;
	event.conn.started_ns = event.head.time_ns;
	event.conn.netns_cookie = netns_cookie;
	event.conn.cgroup_id = bpf_get_current_cgroup_id();
	event.conn.pid = bpf_get_current_pid_tgid() >> 32;
	event.conn.uid = (__u32)bpf_get_current_uid_gid();
	read_leader_comm(event.conn.comm);
	event.conn.dst = *dst;
	event.conn.rule_counter = rule_counter;
	watch_write(interest, interest->watching, &event.head, sizeof(event));
	return 0;
}

/* True if the socket that the calling process closes is a relay's. */
static __always_inline bool closes_for_relay(struct bpf_sock *sk)
{
	const struct tproxy_policy *policy = get_policy();

	return is_marked_of_relay(sk) || (policy && in_relay_cgroup(policy));
}

/*
 * The program closes a TCP socket that is not connected. If its SYN was never sent, no other hook
 * tells the watchers that this connection has ended.
 */
static __always_inline void watch_released(struct bpf_sock *sk)
{
	struct tproxy_interest *interest = get_interest();
	struct tproxy_watch_head event = {};

	if (sk->state != BPF_TCP_CLOSE || !interest || !interest->watching || closes_for_relay(sk))
		return;
	event.time_ns = bpf_ktime_get_ns();
	event.cookie = bpf_get_socket_cookie(sk);
	event.kind = TPROXY_WATCH_RELEASED;
	watch_write(interest, interest->watching, &event, sizeof(event));
}

#endif
