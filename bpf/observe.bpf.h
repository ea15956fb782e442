/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Observed connections: direct ones whose end is reported, because a rule says so.
 *
 *   connect                    observe_begin(): an entry, with the process
 *   sockops TCP_CONNECT        observe_sent(): adds the source and requests the STATE callback
 *   sockops ESTABLISHED        observe_established(): requests the callback again
 *   sockops STATE -> CLOSE     observe_end(): reports the end in map_events, deletes the entry
 *   connect, sock_release      observe_again(), observe_released(): an attempt without a SYN
 *
 * The entry is in the slot of the socket's cookie, or in map_observed if another connection has
 * that slot. Cookies are consecutive, so the slots of connections that are alive mostly differ. A
 * slot is two cache lines. Mostly one CPU connects and another one sees the end, so the number of
 * cache lines is what an entry costs. An entry of a hash map, and socket storage, have several
 * more.
 *
 * Each hook looks up the socket's cookie, but only while map_interest says that there may be
 * entries. It has a time and no number of entries: all CPUs would write to a number at each
 * connection, and that cost as much as the event.
 *
 * The hook that deletes the entry reports the connection, so each connection is reported once.
 * Connections that cannot be noted or reported are counted. The sweep finds entries whose socket is
 * gone.
 */
#ifndef TPROXY_OBSERVE_BPF_H
#define TPROXY_OBSERVE_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "endpoint.bpf.h"
#include "interest.bpf.h"
#include "kernel.bpf.h"
#include "maps.bpf.h"
#include "tproxy_abi.h"

#define NS_PER_S 1000000000ULL
/* Time without a new entry after which the hooks stop looking, if no entry is left. */
#define OBSERVING_IDLE_S 60

/* Never 0, and no overflow for 136 years of uptime. */
static __always_inline __u32 observing_seconds(__u64 ns)
{
	return (__u32)(ns / NS_PER_S) + 1;
}

/*
 * Called before an entry is inserted. observing_ends() resets a time that is older than
 * OBSERVING_IDLE_S, and only if it is still the same. So the time is either renewed here, and not
 * reset, or too young to be reset.
 */
static __always_inline void observing_begins(__u64 now_ns)
{
	struct tproxy_interest *interest = get_interest();
	const __u32 now_s = observing_seconds(now_ns);

	if (interest && interest->observed_s != now_s)
		interest->observed_s = now_s;
}

/*
 * Called by a sweep that has found no entry. last_s is the time in map_interest before the sweep
 * began to look.
 */
static __always_inline void observing_ends(__u32 last_s, __u64 now_ns)
{
	struct tproxy_interest *interest = get_interest();

	if (interest && observing_seconds(now_ns) > last_s + OBSERVING_IDLE_S)
		__sync_val_compare_and_swap(&interest->observed_s, last_s, 0);
}

/*
 * As count(), but atomic: a softirq cannot make it lose a count. The log reports these numbers as
 * missing connections.
 */
static __always_inline void count_loss(enum tproxy_stat stat)
{
	__u32 key = stat;
	__u64 *value = bpf_map_lookup_elem(&map_stats, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline struct tproxy_observed_slot *observed_slot(__u64 cookie)
{
	__u32 key = cookie % TPROXY_OBSERVED_SLOTS;

	return bpf_map_lookup_elem(&map_observed_slots, &key);
}

/* Returns the entry of a socket, or NULL. */
static __always_inline struct tproxy_observed *observed_find(__u64 cookie)
{
	struct tproxy_observed_slot *slot = observed_slot(cookie);

	if (slot && slot->cookie == cookie)
		return &slot->conn;
	return bpf_map_lookup_elem(&map_observed, &cookie);
}

/* Returns false if there is no entry: another CPU has deleted it. */
static __always_inline bool observed_delete(__u64 cookie)
{
	struct tproxy_observed_slot *slot = observed_slot(cookie);

	if (slot && slot->cookie == cookie)
		return __sync_val_compare_and_swap(&slot->cookie, cookie, 0) == cookie;
	return !bpf_map_delete_elem(&map_observed, &cookie);
}

/*
 * Inserts the entry of a socket that has none. Returns 0 or -errno. While a slot is filled in, its
 * cookie is that of no socket. The last exchange orders the stores, as the sweep on another CPU
 * sees them.
 */
static __always_inline long observed_insert(__u64 cookie, const struct tproxy_observed *observed)
{
	struct tproxy_observed_slot *slot = observed_slot(cookie);

	if (slot && !slot->cookie &&
	    !__sync_val_compare_and_swap(&slot->cookie, 0, cookie | TPROXY_OBSERVED_BUSY)) {
		slot->conn = *observed;
		__sync_lock_test_and_set(&slot->cookie, cookie);
		return 0;
	}
	return bpf_map_update_elem(&map_observed, &cookie, observed, BPF_NOEXIST);
}

/*
 * Reserves a report, and fills in the entry of the connection. The caller must then call
 * event_send(). Returns NULL if the ring is full; then the caller must call event_lose(). The
 * caller may test the pointer only once: the verifier of 6.1 forgets the first test, and would find
 * a path on which the report is never sent.
 */
static __always_inline struct tproxy_event *event_begin(__u64 cookie,
							const struct tproxy_observed *observed)
{
	struct tproxy_event *event = bpf_ringbuf_reserve(&map_events, sizeof(*event), 0);

	if (!event)
		return NULL;
	__builtin_memset(event, 0, sizeof(*event));
	event->conn = *observed;
	event->cookie = cookie;
	event->ended_ns = bpf_ktime_get_ns();
	event->rtt_min_us = ~0U;
	return event;
}

/*
 * Deletes the entry and submits the report. If another CPU has deleted the entry, that CPU reports.
 * The reader is woken only if it has read everything before: a busy reader polls.
 */
static __always_inline void event_send(struct tproxy_event *event, __u64 cookie)
{
	if (!observed_delete(cookie)) {
		bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
		return;
	}
	bpf_ringbuf_submit(event, 0);
}

/* Deletes the entry of a connection whose end cannot be reported. */
static __always_inline void event_lose(__u64 cookie)
{
	if (observed_delete(cookie))
		count_loss(TPROXY_STAT_EVENTS_LOST);
}

/* Reports a connection of which only the entry is known. */
static __always_inline void observe_report(__u64 cookie, const struct tproxy_observed *observed,
					   enum tproxy_event_state state)
{
	struct tproxy_event *event = event_begin(cookie, observed);

	if (!event) {
		event_lose(cookie);
		return;
	}
	event->state = state;
	event_send(event, cookie);
}

/*
 * VERDICT_OBSERVE: notes the connection of the calling process. A global function, see
 * rules_find(). A second call before the SYN keeps the entry of the first call. may_have_entry is
 * false for a socket without a cookie.
 */
__attribute__((noinline)) int observe_begin(__u64 cookie, __u64 netns_cookie,
					    const struct tproxy_endpoint *dst, __u32 rule_counter,
					    bool may_have_entry)
{
	struct tproxy_observed observed = {};

	if (!dst || (may_have_entry && observed_find(cookie)))
		return 0;
	observed.started_ns = bpf_ktime_get_ns();
	observed.netns_cookie = netns_cookie;
	observed.cgroup_id = bpf_get_current_cgroup_id();
	observed.pid = bpf_get_current_pid_tgid() >> 32;
	observed.uid = (__u32)bpf_get_current_uid_gid();
	read_leader_comm(observed.comm);
	observed.dst = *dst;
	observed.rule_counter = rule_counter;
	observing_begins(observed.started_ns);
	if (observed_insert(cookie, &observed))
		count_loss(TPROXY_STAT_OBSERVE_FULL);
	return 0;
}

/* True if the socket has no entry, because nobody has asked for its cookie, which is the key. */
static __always_inline bool is_unknown(struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return tp && tp->inet_conn.icsk_inet.sk.__sk_common.skc_cookie.counter == 0;
}

/*
 * Called by connect for a socket that may have an entry of an earlier attempt. If that attempt had
 * the same destination and has sent no SYN, the entry stays: while a loader replaces a cgroup by
 * one of its ancestors, the program runs twice for one connect(). A global function, see
 * rules_find().
 */
__attribute__((noinline)) int observe_again(__u64 cookie, const struct tproxy_endpoint *dst)
{
	const struct tproxy_observed *observed = observed_find(cookie);

	if (!observed || !dst)
		return 0;
	if (observed->flags & TPROXY_OBSERVED_SENT)
		observe_report(cookie, observed, TPROXY_EVENT_UNSEEN);
	else if (!endpoint_equal(&observed->dst, dst))
		observe_report(cookie, observed, TPROXY_EVENT_NOT_SENT);
	return 0;
}

/* The program closes a TCP socket. The end of a connection whose SYN was sent is still to come. */
static __always_inline void observe_released(struct bpf_sock *sk)
{
	struct tproxy_observed *observed;
	__u64 cookie;

	if (!is_observing())
		return;
	cookie = bpf_get_socket_cookie(sk);
	observed = observed_find(cookie);
	if (!observed)
		return;
	if (observed->flags & TPROXY_OBSERVED_SENT)
		observed->released_ns = bpf_ktime_get_coarse_ns();
	else
		observe_report(cookie, observed, TPROXY_EVENT_NOT_SENT);
}

#endif
