/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pending connections: clients whose connect() waits until the relay has reached the destination
 * (honest connect). tproxy_abi.h describes the maps: slots, answers, rings and pairs of listeners.
 * Nothing else in the relay uses these maps.
 *
 * The main thread opens the maps, claims rings, makes pairs and sends heartbeats. A worker reads
 * events from its ring, and sessions read the state of their slot and answer it. Slots and answers
 * are mapped into memory: neither takes a system call.
 *
 * A ring belongs to a relay and its successors under one supervisor, which share a random number,
 * the owner. A ring whose owner has sent no heartbeat for TPROXY_STALE_NS may be taken by another
 * relay.
 *
 * Functions do not log. Any thread, unless stated otherwise.
 */
#ifndef TPROXY_KERNEL_PENDING_H
#define TPROXY_KERNEL_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "tproxy_abi.h"

#define PENDING_NONE UINT32_MAX

/* Names one pending connect(). */
struct pending {
	uint32_t slot; /* PENDING_NONE: none */
	uint64_t generation;
};

/* The mapped arrays and the descriptors of one load; counts its references. */
struct pending_maps;
/* A ring that this relay owns. It lives as long as its maps. */
struct pending_ring;

/*
 * Opens the pins below pin_dir. owner is not 0. Returns 0 with *ret_maps set, a reference, or
 * -errno; -ENOENT: this load has no such maps. Main thread.
 */
int pending_open(const char *pin_dir, uint64_t owner, struct pending_maps **ret_maps);
/* Adds a reference; returns maps, which may be NULL. */
struct pending_maps *pending_ref(struct pending_maps *maps);
/* Drops a reference, and frees maps with the last one. It does not give rings back. */
void pending_unref(struct pending_maps *maps);
/*
 * True if the maps pinned below pin_dir are these, also those by which the program that is attached
 * to our listeners finds clients. Main thread.
 */
bool pending_is_current(const struct pending_maps *maps, const char *pin_dir);
/* True if one of them is another now. If one is missing, the next load makes it. Main thread. */
bool pending_is_replaced(const struct pending_maps *maps, const char *pin_dir);

/*
 * Claims rings: those that the owner has already, and of the free ones at most half, so that the
 * relay that replaces this one finds some. Rings of a dead owner come last. most: limit of rings in
 * total. Returns how many this relay has now. The rings of an owner before us are read from where
 * it stopped, and its slots without an answer come as events once more. Main thread.
 */
uint32_t pending_claim(struct pending_maps *maps, uint32_t most);
/* Returns ring i of those that were claimed. */
struct pending_ring *pending_ring(struct pending_maps *maps, uint32_t i);
/*
 * Renews alive_ns of the rings, and says how long a dial may take, 0 = without limit. Returns false
 * if another relay has taken one. Main thread.
 */
bool pending_heartbeat(struct pending_maps *maps, uint64_t dial_ms);
/* Gives all rings back. Main thread, after the workers have ended. */
void pending_release(struct pending_maps *maps);

/*
 * Pairs. pending_pair_choose() returns the number of a free pair of a ring in *ret_pair, for the
 * marks of both listeners, or -ENOSPC. After listen() of both, pending_pair_add() attaches the
 * program that chooses between them, and adds them to map_pairs. Both return 0 or -errno. Main
 * thread.
 */
int pending_pair_choose(struct pending_maps *maps, const struct pending_ring *ring,
			uint32_t *ret_pair);
int pending_pair_add(struct pending_maps *maps, uint32_t pair, int real_fd, int sink_fd);
/* The index in map_rings of a ring, for the marks. */
uint32_t pending_ring_index(const struct pending_ring *ring);
/*
 * Returns the ring of a pair that an earlier child of our supervisor has made and this process has
 * adopted, or NULL if we do not own that ring. Main thread.
 */
struct pending_ring *pending_pair_adopt(struct pending_maps *maps, uint32_t pair, int real_fd);

/*
 * Reading a ring: in one thread at a time. The descriptor becomes readable when there is an event.
 */
int pending_ring_fd(const struct pending_ring *ring);
/*
 * Returns true with the oldest event in *ret_event. The event stays the oldest one until
 * pending_consumed(): a caller that cannot serve it now leaves it there. Returns false if there is
 * none.
 */
bool pending_next(struct pending_ring *ring, struct tproxy_pending_event *ret_event);
/* Removes the event that pending_next() returned last. */
void pending_consumed(struct pending_ring *ring);

/*
 * Reads the connection of a slot, by one system call. Returns 0, or -ESTALE if the client has given
 * up. -EXDEV: its SYN did not go to a listener of this relay, *ret_conn is not set.
 */
int pending_conn(const struct pending_ring *ring, const struct pending *p,
		 struct tproxy_conn *ret_conn);

enum pending_state {
	PENDING_WAITS,
	PENDING_ESTABLISHED, /* the client's connect() has succeeded */
	PENDING_GONE,	     /* it has given up, or the slot is another connection's */
};
/* No system call. */
enum pending_state pending_state(const struct pending_maps *maps, const struct pending *p);
/* True if this connection has an answer. No system call. */
bool pending_is_answered(const struct pending_maps *maps, const struct pending *p);
/*
 * True if the SYN of a client that has one of our rings must still find a listener: it waits, or
 * comes for its answer. Looks at all slots, about 0.3 ms. No system call.
 */
bool pending_is_any(const struct pending_maps *maps);
/* Answers; without effect if the slot is another connection's by now. No system call. */
void pending_answer(const struct pending_maps *maps, const struct pending *p,
		    enum tproxy_answer answer);

#endif
