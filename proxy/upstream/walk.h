/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The walk of a dial (dial.h) over its places (place.h): the upstreams in the order of group.c,
 * each with its addresses. It starts the attempts (attempt.h), at most WALK_ATTEMPTS at the same
 * time, takes the first that is done, and judges the health of the upstreams. It ends when an
 * attempt has reached the destination, when an upstream has refused it, or when no address is left.
 * A refusal waits for the attempts that began before it, for answer_ms at most.
 * What follows then is decided by the dial.
 */
#ifndef TPROXY_WALK_H
#define TPROXY_WALK_H

#include <stdbool.h>

#include "walk_state.h"

/* The walk has no places yet. request must outlive it, and stay where it is. */
void walk_init(struct walk *w, struct dial_request *request,
	       void (*on_end)(struct walk *w, enum walk_progress progress), void *owner);
/* Appends a place, of at most WALK_PLACES_MAX. No group. */
void walk_add(struct walk *w, struct upstream *upstream);
/*
 * Starts an attempt, or several if they end at once, and returns how far the walk came. Only while
 * fewer than WALK_ATTEMPTS run.
 */
enum walk_progress walk_go_on(struct walk *w);
/* All places begin again, with walk_go_on(). Only while no attempt runs. */
void walk_reset(struct walk *w);

/* The owner gives up: upstreams that have been silent for answer_ms have failed. */
void walk_judge(struct walk *w);
/*
 * The session's timeout has expired: upstreams that owe an answer have failed. Sets failure, but
 * not its error; of an attempt at the destination itself direct_error. A refusal that waits becomes
 * the failure. Ends all attempts, and no place is left but those that are added then. Returns true
 * if an upstream has answered, but not for this destination.
 */
bool walk_expire(struct walk *w);
/* True if an event that an attempt waits for is pending. */
bool walk_has_work(const struct walk *w);
/*
 * Ends all attempts but the winner, for which the owner calls attempt_close(), and closes the
 * prepared socket of the request.
 */
void walk_stop(struct walk *w);

#endif
