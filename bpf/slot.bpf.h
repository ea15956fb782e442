/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The arithmetic of pending connections: which slot a socket gets, when a slot is free, whether a
 * connection waits at all, and for how long. Pure, and built by the host's compiler too, as
 * decide.bpf.h is; pending.bpf.h has the maps.
 */
#ifndef TPROXY_SLOT_BPF_H
#define TPROXY_SLOT_BPF_H

#include <stdbool.h>
#include <linux/types.h>

#include "tproxy_abi.h"

/* Slots that are tried. If none of them is free, the relay accepts first. */
#define SLOT_PROBES 8

/* The kernel's limit of the retransmission timer, TCP_RTO_MAX. */
#define SLOT_RTO_MAX_S 120
/* A second, doubled so often, is the last one below. */
#define SLOT_DOUBLINGS 6
/* The kernel's limit of TCP_SYNCNT. */
#define SLOT_SYNCNT_MAX 127
/* The part of the kernel's first timer, one second, after which the first SYN is sent again. */
#define SLOT_TIMER_PART 64
/* How late a relay may be in noticing that its dial has taken too long. */
#define SLOT_DIAL_LATE_MS 500

/* Returns the index of the slot that is tried as number probe, from 0, for a socket. */
static inline __u32 slot_index(__u64 cookie, __u32 probe)
{
	const __u64 hash = cookie * 0x9e3779b97f4a7c15ULL; /* 2^64 by the golden ratio */

	/* The upper bits: cookies are consecutive numbers, and these spread them evenly. */
	return ((__u32)((hash >> 32) * TPROXY_PENDING_MAX >> 32) + probe) % TPROXY_PENDING_MAX;
}

/*
 * True if the slot may be claimed. verdict is its word in map_verdicts. A slot whose client was
 * told of success is in use until the relay has seen that. A relay that was killed never says so:
 * then the slot is free some time after the client has closed.
 */
static inline bool slot_is_free(__u64 word, __u64 since_ns, __u64 verdict, __u64 now_ns)
{
	const __u32 state = TPROXY_WORD_LOW(word);

	if (state == TPROXY_PENDING_FREE)
		return true;
	if (state != TPROXY_PENDING_ESTABLISHED && state != TPROXY_PENDING_CLOSED)
		return false;
	if (verdict == TPROXY_WORD(TPROXY_WORD_GENERATION(word), TPROXY_ANSWER_TAKEN))
		return true;
	return state == TPROXY_PENDING_CLOSED && now_ns > since_ns + TPROXY_STALE_NS;
}

/* Returns the answer in a word of map_verdicts, for a slot of this generation. */
static inline enum tproxy_answer slot_answer(__u64 verdict, __u64 generation)
{
	if (TPROXY_WORD_GENERATION(verdict) != generation)
		return TPROXY_ANSWER_NONE;
	return (enum tproxy_answer)TPROXY_WORD_LOW(verdict);
}

/* True if a connection with conn_flags waits for a relay whose listener has listener_flags. */
static inline bool slot_is_wanted(__u32 conn_flags, __u32 listener_flags)
{
	if (!(listener_flags & TPROXY_LISTENER_CAPABLE))
		return false;
	if (conn_flags & TPROXY_CONN_HONEST)
		return true;
	return listener_flags & TPROXY_LISTENER_DEFAULT && !(conn_flags & TPROXY_CONN_EAGER);
}

/*
 * Returns the sum of the first n + 1 intervals between SYNs, in seconds: the first one is a second,
 * and each later one twice the one before, up to SLOT_RTO_MAX_S.
 */
static inline __u32 slot_doubled_s(__u32 n)
{
	if (n <= SLOT_DOUBLINGS)
		return (2U << n) - 1;
	return (2U << SLOT_DOUBLINGS) - 1 + (n - SLOT_DOUBLINGS) * SLOT_RTO_MAX_S;
}

/*
 * Returns the time of the first SYN timer that fires at total_s or later, in seconds. There are
 * linear intervals of a second (tcp_syn_linear_timeouts) before those of slot_doubled_s().
 */
static inline __u32 slot_timer_from_s(__u32 total_s, __u32 linear)
{
	const __u32 doubled_s = linear + slot_doubled_s(SLOT_DOUBLINGS);
	__u32 i, at_s;

	if (total_s <= linear + 1)
		return total_s;
	for (i = 1; i <= SLOT_DOUBLINGS; i++) {
		at_s = linear + slot_doubled_s(i);
		if (at_s >= total_s)
			return at_s;
	}
	return doubled_s +
	       (total_s - doubled_s + SLOT_RTO_MAX_S - 1) / SLOT_RTO_MAX_S * SLOT_RTO_MAX_S;
}

/*
 * Returns the milliseconds after which connect() fails with ETIMEDOUT if nobody answers, of a
 * socket with TCP_SYNCNT syncnt, and TCP_USER_TIMEOUT user_ms or 0. The kernel looks at both when a
 * timer fires, and the first one does after a second.
 *
 * Without TCP_USER_TIMEOUT the kernel computes a limit from TCP_SYNCNT, as if there were no linear
 * intervals. With it, the kernel counts, and the SYNs at linear intervals come in addition.
 */
static inline __u32 slot_limit_ms(__u32 syncnt, __u32 linear, __u32 user_ms)
{
	const __u32 doubled_s = slot_doubled_s(syncnt > SLOT_SYNCNT_MAX ? SLOT_SYNCNT_MAX : syncnt);
	const __u32 count_ms = (linear + doubled_s) * 1000;

	if (user_ms == 0)
		return slot_timer_from_s(doubled_s, linear) * 1000;
	if (user_ms > count_ms)
		return count_ms;
	return user_ms < 1000 ? 1000 : user_ms;
}

/*
 * Returns the milliseconds after which connect() fails if nobody answers: limit_ms, or less if the
 * relay's dial has ended before that. dialled_ms: when the dial began, 0 = not yet. dial_ms: how
 * long it takes at most, 0 = unknown.
 */
static inline __u32 slot_dial_limit_ms(__u32 limit_ms, __u32 dialled_ms, __u32 dial_ms)
{
	__u64 end_ms = (__u64)dialled_ms + dial_ms + SLOT_DIAL_LATE_MS;

	return dialled_ms == 0 || dial_ms == 0 || end_ms > limit_ms ? limit_ms : (__u32)end_ms;
}

#endif
