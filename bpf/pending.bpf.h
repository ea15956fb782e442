/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pending connections: those whose connect() waits until the relay has reached the destination.
 * Each has a slot. Its word in map_pending is a generation and a state, and changes by
 * compare-and-swap only. Its changes, with the function that makes them:
 *
 *   FREE -> CLAIMED          any connect(). This begins a new generation.
 *   CLAIMED -> WAITS         the claimant. Nobody else touches a slot that is CLAIMED.
 *   WAITS -> NOTIFIED        pick, for the first SYN. An event goes to the relay.
 *   NOTIFIED -> WAITS        pick, if the ring was full: the next SYN tries again.
 *   NOTIFIED -> JOINING      the hook of the relay's socket that joins, before its SYN
 *   WAITS, NOTIFIED, JOINING -> ACCEPT  pick: a SYN that cannot be swallowed goes to the listener.
 *   JOINING -> ESTABLISHED   the client's own hook, when the relay's socket has joined it
 *   WAITS to ACCEPT -> FREE  the same hook, when a real listener has answered
 *   ESTABLISHED -> CLOSED    pending_free(): the relay may not have looked yet
 *   others -> FREE           pending_free(), by the hook of the client's end, or by the sweep
 *   ESTABLISHED -> CLAIMED   any connect(), after the relay's answer TAKEN
 *   CLOSED -> CLAIMED        the same, or TPROXY_STALE_NS later: the relay was killed
 *
 * A slot is not freed twice, and not by others: a record of a connection (map_socks, map_clients)
 * names slot and generation, and a generation ends with the first claim that follows it. A later
 * attempt to free it fails to swap. A slot is not lost: until it is FREE or CLOSED, the entry in
 * map_socks names it, and each function that deletes such an entry calls pending_free() too. If
 * pick changes the word meanwhile, pending_free() tries again. A claimant that finds no room for
 * the entry frees the slot itself. An answer of the relay (map_verdicts) is no state: it takes
 * effect when one of these hooks reads it, and a wrong one can at most make a connect() of this
 * relay's clients fail.
 *
 * JOINING proves who joins. A process of another user that has bound the relay's port could connect
 * to a client in SYN_SENT too. When the hook of the relay's socket runs, that socket has both
 * addresses, so no other socket can have them.
 */
#ifndef TPROXY_PENDING_BPF_H
#define TPROXY_PENDING_BPF_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "maps.bpf.h"
#include "slot.bpf.h"
#include "stats.bpf.h"
#include "tproxy_abi.h"

/*
 * Attempts to swap a word that others may change meanwhile: pick at most twice for each SYN, of
 * which a connection has one under way, and the hook of the relay's socket that joins, once.
 */
#define PENDING_SWAPS 8

/* Returns a slot. NULL only for an index that is out of bounds. */
static __always_inline struct tproxy_pending *pending_at(__u32 index)
{
	return bpf_map_lookup_elem(&map_pending, &index);
}

static __always_inline __u64 pending_verdict(__u32 index)
{
	const __u64 *word = bpf_map_lookup_elem(&map_verdicts, &index);

	return word ? *(const volatile __u64 *)word : 0;
}

/* Reads the word. Atomic, which orders the reads of other members that follow. */
static __always_inline __u64 pending_word(struct tproxy_pending *slot)
{
	return __sync_fetch_and_add(&slot->word, 0);
}

/* Changes the word, unless it has changed. Orders the stores of other members before it. */
static __always_inline bool pending_swap(struct tproxy_pending *slot, __u64 word, __u32 state)
{
	const __u64 next = TPROXY_WORD(TPROXY_WORD_GENERATION(word), state);

	return __sync_val_compare_and_swap(&slot->word, word, next) == word;
}

/* Returns false if the ring is full, or missing. */
static __always_inline bool pending_notify(__u32 ring, enum tproxy_pending_kind kind, __u32 index,
					   __u64 generation)
{
	void *ringbuf = bpf_map_lookup_elem(&map_rings, &ring);
	struct tproxy_pending_event event = {
		.kind = kind,
		.slot = index,
		.generation = generation,
	};

	return ringbuf && !bpf_ringbuf_output(ringbuf, &event, sizeof(event), 0);
}

/*
 * Claims a slot. Returns its index, or -1. A global function, see rules_find(): the verifier need
 * not walk through it for each path of sockops.
 */
__attribute__((noinline)) int pending_claim(__u64 cookie)
{
	const __u64 now_ns = bpf_ktime_get_ns();
	struct tproxy_pending *slot;
	__u64 word, next;
	__u32 i, index;

	for (i = 0; i < SLOT_PROBES; i++) {
		index = slot_index(cookie, i);
		slot = pending_at(index);
		if (!slot)
			break;
		word = pending_word(slot);
		if (!slot_is_free(word, slot->since_ns, pending_verdict(index), now_ns))
			continue;
		next = TPROXY_WORD(TPROXY_WORD_GENERATION(word) + 1, TPROXY_PENDING_CLAIMED);
		if (__sync_val_compare_and_swap(&slot->word, word, next) == word)
			return (int)index;
	}
	return -1;
}

/*
 * Ends a generation: the client or its entry in map_socks is gone. pending is as in struct
 * tproxy_conn. A global function too. It sends no event, because the stack of connect's sweep has
 * no room for one. Returns true if a relay dials for the client: without an event the relay notices
 * the end when it next looks at the slot.
 */
__attribute__((noinline)) int pending_free(__u32 pending, __u64 generation)
{
	const __u32 index = pending - 1;
	struct tproxy_pending *slot = pending_at(index);
	__u32 i, state;
	__u64 word;

	if (!slot)
		return 0;
	for (i = 0; i < PENDING_SWAPS; i++) {
		word = pending_word(slot);
		state = TPROXY_WORD_LOW(word);
		if (TPROXY_WORD_GENERATION(word) != generation || state == TPROXY_PENDING_FREE ||
		    state == TPROXY_PENDING_CLOSED)
			return 0;
		if (state == TPROXY_PENDING_ESTABLISHED) {
			if (slot_answer(pending_verdict(index), generation) == TPROXY_ANSWER_TAKEN)
				return 0;
			/* A slot that was claimed again gets a time that is a little too late. */
			slot->since_ns = bpf_ktime_get_ns();
			if (pending_swap(slot, word, TPROXY_PENDING_CLOSED))
				return 0;
			continue;
		}
		if (pending_swap(slot, word, TPROXY_PENDING_FREE))
			return tproxy_pending_is_notified(state) &&
			       slot_answer(pending_verdict(index), generation) ==
				       TPROXY_ANSWER_NONE;
	}
	return 0;
}

/* As pending_free(), and tells the relay that dials. */
static __always_inline void pending_give_up(__u32 pending, __u64 generation)
{
	const struct tproxy_pending *slot = pending_at(pending - 1);
	const __u32 ring = slot ? slot->ring : 0;

	if (pending_free(pending, generation))
		pending_notify(ring, TPROXY_PENDING_GONE, pending - 1, generation);
}

/*
 * Gives a connection a slot, if it is to wait. Sets client->conn.pending and generation. Called
 * before the entry in map_socks is made, which has a copy of them: no SYN finds the slot before.
 */
static __always_inline void pending_begin(struct client *client, const struct tcp_sock *tp,
					  const struct tproxy_listener *listener)
{
	struct tproxy_pending *slot;
	__u64 word;
	int index;

	if (!slot_is_wanted(client->conn.flags, listener->flags))
		return;
	/* After a simultaneous open the kernel does not wake connect() of an MPTCP socket. */
	if (bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp) {
		count(TPROXY_STAT_HONEST_MPTCP);
		return;
	}
	index = pending_claim(client->conn.cookie);
	slot = index < 0 ? NULL : pending_at((__u32)index);
	if (!slot) {
		count(TPROXY_STAT_HONEST_NO_SLOT);
		return;
	}
	slot->cookie = client->conn.cookie;
	slot->pair = listener->pair;
	slot->ring = listener->ring;
	slot->since_ns = 0;
	word = slot->word;
	client->conn.pending = (__u32)index + 1;
	client->conn.generation = TPROXY_WORD_GENERATION(word);
	pending_swap(slot, word, TPROXY_PENDING_WAITS);
	count(TPROXY_STAT_HONEST_PENDING);
}

/* The relay's socket is about to join the client: conn is in its mark. */
static __always_inline void pending_join(const struct tproxy_conn *conn)
{
	struct tproxy_pending *slot = pending_at(conn->pending - 1);

	if (slot)
		pending_swap(slot, TPROXY_WORD(conn->generation, TPROXY_PENDING_NOTIFIED),
			     TPROXY_PENDING_JOINING);
}

/*
 * The client's handshake is complete. Success of connect() is in the slot before the client can
 * send or close: this hook holds its lock. joined: the client has seen a SYN without ACK, which no
 * listener sends. Without it the relay's socket may have answered the client's own SYN (SYNs that
 * crossed), or a listener: after ACCEPT, or where a relay is replaced at the same port and pick has
 * not seen the SYN. Returns false if another process has joined the client.
 */
static __always_inline bool pending_established(const struct client *client, bool joined)
{
	const __u64 cookie = client->conn.cookie, generation = client->conn.generation;
	const __u32 index = client->conn.pending - 1;
	struct tproxy_pending *slot = pending_at(index);
	struct tproxy_conn *conn;
	bool by_relay;
	__u32 i, state;
	__u64 word;

	if (!slot)
		return !joined;
	for (i = 0; i < PENDING_SWAPS; i++) {
		word = pending_word(slot);
		state = TPROXY_WORD_LOW(word);
		if (TPROXY_WORD_GENERATION(word) != generation || state == TPROXY_PENDING_FREE)
			return !joined;
		/* After an answer the relay joins no more. */
		by_relay = state == TPROXY_PENDING_JOINING &&
			   slot_answer(pending_verdict(index), generation) == TPROXY_ANSWER_NONE;
		if (joined && !by_relay)
			return false;
		if (!pending_swap(slot, word,
				  by_relay ? TPROXY_PENDING_ESTABLISHED : TPROXY_PENDING_FREE))
			continue;
		if (!by_relay)
			return true;
		/* No accepted socket will need the entry: the relay has read it. */
		conn = bpf_map_lookup_elem(&map_socks, &cookie);
		if (conn)
			__sync_fetch_and_or(&conn->flags, TPROXY_CONN_TAKEN);
		return true;
	}
	return false;
}

/* Returns the relay that is to answer, or NULL if it is stopped or killed. */
static __always_inline const struct tproxy_ring *pending_owner(const struct client *client)
{
	struct tproxy_pending *slot = pending_at(client->conn.pending - 1);
	const struct tproxy_ring *owner;
	__u32 ring;

	if (!slot)
		return NULL;
	ring = slot->ring;
	owner = bpf_map_lookup_elem(&map_ring_owners, &ring);
	return owner && bpf_ktime_get_ns() <= owner->alive_ns + TPROXY_STALE_NS ? owner : NULL;
}

/*
 * True if the relay has read the event of this client, and so has begun to dial: the ring is empty.
 * A relay that has no room leaves events there. Whose they are cannot be seen, so this is false too
 * while only events of other clients are left.
 */
static __always_inline bool pending_is_dialled(const struct client *client)
{
	struct tproxy_pending *slot = pending_at(client->conn.pending - 1);
	void *ringbuf;
	__u32 ring;

	if (!slot ||
	    pending_word(slot) != TPROXY_WORD(client->conn.generation, TPROXY_PENDING_NOTIFIED))
		return false;
	ring = slot->ring;
	ringbuf = bpf_map_lookup_elem(&map_rings, &ring);
	return ringbuf && !bpf_ringbuf_query(ringbuf, BPF_RB_AVAIL_DATA);
}

/* True if no SYN of this client has reached pick: rules of the host keep it from the relay. */
static __always_inline bool pending_is_unseen(const struct client *client)
{
	struct tproxy_pending *slot = pending_at(client->conn.pending - 1);

	return slot && !slot->since_ns &&
	       pending_word(slot) == TPROXY_WORD(client->conn.generation, TPROXY_PENDING_WAITS);
}

/* True if the client's next SYN gets the answer of the real listener. */
static __always_inline bool pending_is_accepted(const struct client *client)
{
	struct tproxy_pending *slot = pending_at(client->conn.pending - 1);
	const __u64 generation = client->conn.generation;

	if (slot && pending_word(slot) == TPROXY_WORD(generation, TPROXY_PENDING_ACCEPT))
		return true;
	return slot_answer(pending_verdict(client->conn.pending - 1), generation) ==
	       TPROXY_ANSWER_ACCEPT;
}

static __always_inline bool pending_has_timed_out(const struct client *client)
{
	return slot_answer(pending_verdict(client->conn.pending - 1), client->conn.generation) ==
	       TPROXY_ANSWER_TIMED_OUT;
}

#endif
