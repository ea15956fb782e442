/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state of a walk (walk.h): its places, the attempts at them, and what has come of them so far.
 * walk.c moves it on, outcome.c notes the ends of attempts in it.
 */
#ifndef TPROXY_WALK_STATE_H
#define TPROXY_WALK_STATE_H

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

#endif
