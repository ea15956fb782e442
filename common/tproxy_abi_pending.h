/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A part of tproxy_abi.h: connections that wait for the relay (honest connect). */
#ifndef TPROXY_ABI_PENDING_H
#define TPROXY_ABI_PENDING_H

#include <linux/types.h>

#include "tproxy_abi_base.h"

/*
 * Honest connect: connect() of a client succeeds only when the relay has reached the destination,
 * and fails with its error. Until then the connection is pending, and has a slot: an index that is
 * the same in map_pending and map_verdicts. bpf/pending.bpf.h says who changes a slot and when.
 *
 * map_pending, an array that relays map into their memory to read it. Written by the kernel half.
 *
 * map_verdicts, an array of __u64, TPROXY_WORD(generation, enum tproxy_answer), that relays map
 * into their memory to write it. It is a map of its own, because a relay must not be able to write
 * states. A word of another generation than the slot's means NONE. Each word is one store; nothing
 * orders it with other words.
 *
 * A generation is used once: it names one pending connect() together with the index of its slot.
 */
#define TPROXY_PENDING_MAX 65536 /* a power of two */

/* A state or an answer, with the generation that it belongs to. */
#define TPROXY_WORD(generation, low) ((__u64)(generation) << 8 | (low))
#define TPROXY_WORD_GENERATION(word) ((__u64)(word) >> 8)
#define TPROXY_WORD_LOW(word)	     ((__u32)((word)&0xff))

enum tproxy_pending_state {
	TPROXY_PENDING_FREE,
	TPROXY_PENDING_CLAIMED,	 /* being filled in: only word is valid */
	TPROXY_PENDING_WAITS,	 /* no SYN was seen, or its event found no room in the ring */
	TPROXY_PENDING_NOTIFIED, /* the relay has an event SYN */
	TPROXY_PENDING_JOINING,	 /* NOTIFIED, and the relay's socket is about to join the client */
	TPROXY_PENDING_ACCEPT,	 /* the kernel half decided: the relay gets it by accept(2) */
	/* connect() has succeeded: the client is connected to the socket that the relay joined. */
	TPROXY_PENDING_ESTABLISHED,
	/* As ESTABLISHED. The client has closed since, and its data may still be to be read. */
	TPROXY_PENDING_CLOSED,
};

/* True if the relay has an event of the slot, and the client still waits. */
static inline int tproxy_pending_is_notified(__u32 state)
{
	return state == TPROXY_PENDING_NOTIFIED || state == TPROXY_PENDING_JOINING;
}

struct tproxy_pending {
	__u64 word;	/* generation and enum tproxy_pending_state */
	__u64 cookie;	/* of the client's socket: key in map_socks */
	__u32 pair;	/* that gets the SYN, see map_pairs */
	__u32 ring;	/* that gets the events */
	__u64 since_ns; /* CLOCK_MONOTONIC: when it became NOTIFIED, or CLOSED; 0 before */
};

enum tproxy_answer {
	TPROXY_ANSWER_NONE,
	TPROXY_ANSWER_FAILED,	 /* the next SYN gets a reset: ECONNREFUSED */
	TPROXY_ANSWER_TIMED_OUT, /* connect() fails with ETIMEDOUT at its next timer */
	TPROXY_ANSWER_ACCEPT,	 /* the next SYN goes to the real listener */
	TPROXY_ANSWER_TAKEN,	 /* the relay has seen ESTABLISHED or CLOSED: the slot is free */
};

/*
 * map_rings, an array of ring buffers with struct tproxy_pending_event: the events of the slots
 * whose ring it is. ring_0, ring_1, ... are pins of them. Written by the kernel half, read by the
 * relay that owns the ring. map_ring_owners, an array with the same index, is mapped by relays and
 * written by them.
 */
#define TPROXY_RINGS_MAX 32
#define TPROXY_RING_SIZE 32768 /* bytes */

struct tproxy_ring {
	__u64 owner;	/* random number that a relay shares with its successors; 0 = nobody */
	__u64 alive_ns; /* CLOCK_MONOTONIC of the owner's last heartbeat */
	/*
	 * How long a dial of the owner may take, 0 = unknown, or without limit. connect() fails
	 * with ETIMEDOUT when that time is over, if the owner has not answered before.
	 */
	__u32 dial_ms;
	__u32 reserved;
};

enum tproxy_pending_kind {
	TPROXY_PENDING_SYN = 1, /* the slot is NOTIFIED: dial */
	/*
	 * The client has given up, and the slot is free. It was NOTIFIED and had no answer. May be
	 * lost if the ring is full.
	 */
	TPROXY_PENDING_GONE,
};

struct tproxy_pending_event {
	__u32 kind; /* enum tproxy_pending_kind */
	__u32 slot;
	__u64 generation;
};

/*
 * map_pairs, sockets by TPROXY_PAIR_REAL(pair) and TPROXY_PAIR_SINK(pair). A pair is two listening
 * sockets of a relay on the same address and port: the real one, which accepts, and the sink, which
 * swallows SYNs. The program pick, which the relay attaches to them, chooses one for each SYN.
 * Written by relays: the owner of a ring has the pairs from TPROXY_PAIR_FIRST(ring) on.
 */
#define TPROXY_PAIRS_OF_RING	(2 * TPROXY_PORTS_MAX)
#define TPROXY_PAIRS_MAX	(TPROXY_RINGS_MAX * TPROXY_PAIRS_OF_RING)
#define TPROXY_PAIR_FIRST(ring) ((ring)*TPROXY_PAIRS_OF_RING)
#define TPROXY_PAIR_REAL(pair)	(2 * (pair))
#define TPROXY_PAIR_SINK(pair)	(2 * (pair) + 1)

_Static_assert(sizeof(struct tproxy_pending) == 32, "ABI");
_Static_assert(sizeof(struct tproxy_ring) == 24, "ABI");
_Static_assert(sizeof(struct tproxy_pending_event) == 16, "ABI");
_Static_assert((TPROXY_PENDING_MAX & (TPROXY_PENDING_MAX - 1)) == 0, "ABI");

#endif
