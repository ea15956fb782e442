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

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attempt.h"
#include "place.h"
#include "upstream.h"

#define WALK_ATTEMPTS 4
/* One more for `direct`, as the policy when all are down. */
#define WALK_PLACES_MAX (UPSTREAM_MEMBERS_MAX + 1)

/* In milliseconds. Only tests change them. */
extern struct walk_times {
	uint32_t second_ms; /* an attempt without a result is joined by the next one */
	uint32_t answer_ms; /* what each attempt gets at least, see walk.c */
	uint32_t trial_ms;  /* the time after which a trial lets another one begin, see walk.c */
} walk_times;

enum walk_progress {
	WALK_RUNS,    /* an attempt is under way */
	WALK_DONE,    /* winner has reached the destination */
	WALK_REFUSED, /* an upstream has refused the destination: failure.error is its answer */
	WALK_EMPTY,   /* no attempt runs, and no address is left */
};

/* The last failure. */
struct walk_failure {
	struct upstream *upstream; /* NULL: none was dialled */
	int error;
	int direct_error; /* of an attempt at the destination itself, or 0 */
	bool local;	  /* it was this host's */
	bool of_client;	  /* an upstream that is told who the client is has refused */
	char why[ATTEMPT_WHY_LEN + UPSTREAM_NAME_LEN];
};

struct walk {
	struct dial_request *request; /* the owner's; the first attempt takes its fd */
	struct place places[WALK_PLACES_MAX];
	size_t n_places;
	bool unresolved; /* a name has no address yet */
	bool postponed;	 /* descriptors or memory were short for one more attempt */
	struct attempt attempts[WALK_ATTEMPTS];
	struct place *place_of[WALK_ATTEMPTS]; /* of each attempt */
	struct attempt *winner;		       /* of attempts; NULL before WALK_DONE */
	struct event timer, trial_timer;
	struct walk_failure failure;
	/* Waits for the attempts that began before refused_us, 0 = none. No other one begins. */
	struct walk_failure refusal;
	uint64_t refused_us;
	/* Called when an event has ended the walk; may free it. Not from within walk_go_on(). */
	void (*on_end)(struct walk *w, enum walk_progress progress);
	void *owner;
};

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
