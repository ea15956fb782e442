/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A place of a dial: one upstream of the dial's order, with its addresses, and the verdict on its
 * health. The first address asks health.h for a permit. From then on the place is begun, until it
 * is judged once: succeeded, failed when its last address has failed, or given up.
 *
 * The time before an answer counts against an upstream only if the answer is its own. A proxy that
 * is silent because its destination is silent has not failed, unless another proxy was faster.
 */
#ifndef TPROXY_PLACE_H
#define TPROXY_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "attempt.h"
#include "health.h"
#include "upstream.h"

struct place {
	struct upstream *upstream;
	enum health_permit permit;
	bool begun;	 /* permit is valid, and the place is not judged yet */
	uint8_t running; /* attempts */
	bool exhausted;	 /* no address is left to try */
	bool declined;	 /* the upstream does not serve this request */
	bool slow;	 /* an attempt was given up for its silence */
	/*
	 * Of the first attempt that was given up while its silence could be the destination's: when
	 * it began, and how long it took, in microseconds; 0: none. The place is begun until then.
	 */
	uint64_t silent_started_us, silent_us;
	/* The index of the address that was tried first, and how many were tried. */
	uint32_t first_address, n_tried;
};

enum place_taken {
	PLACE_TAKEN,
	PLACE_EMPTY,	  /* no address is left, or the upstream may not be dialled now */
	PLACE_RESOLVING,  /* its name has no address yet */
	PLACE_UNRESOLVED, /* its name has none: the place has failed */
};

/*
 * Takes the next address and sets *ret to it. dst is the address of the upstream `direct`. With
 * PLACE_UNRESOLVED sets why, a text of at most why_size bytes, to the reason, which is logged.
 */
enum place_taken place_take_address(struct place *p, const union sockaddr_any *dst,
				    union upstream_addr *ret, char *why, size_t why_size);
/* True if place_take_address() may find an address. Changes nothing. */
bool place_has_more(const struct place *p);

/* The address that was taken last was not dialled, and is taken again the next time. */
void place_put_back(struct place *p);

/* Ends the place's claim on the health of its upstream: it has neither succeeded nor failed. */
void place_give_up(struct place *p);
/* The upstream has failed. Without effect if the place is judged already. */
void place_fail(struct place *p, enum health_failure how, int error, const char *why);
/* The attempt of the place is given up, and its silence may be the destination's. */
void place_note_silence(struct place *p, const struct attempt *a);
/*
 * Another attempt has had an answer for the destination, of the upstream @faster, though it began
 * later than this one, which is under way. The place has failed if the attempt has taken late_ms
 * more than twice the usual time of its upstream, if one is known, and if no other dial of its
 * upstream has succeeded meanwhile.
 */
void place_judge_loser(struct place *p, const struct attempt *a, const struct upstream *faster,
		       uint32_t late_ms);
/*
 * The same for an attempt of place_note_silence(). Without effect if there is none, or if it did
 * not begin before @winner.
 */
void place_judge_silent_loser(struct place *p, const struct attempt *winner, uint32_t late_ms);
/*
 * The place has failed if its upstream owes an answer and has been silent for answer_ms. expired:
 * the session's timeout has ended the dial, so any silence counts.
 */
void place_judge_silence(struct place *p, const struct attempt *a, uint32_t answer_ms,
			 bool expired);
/* The place begins again, with the addresses that are known then. */
void place_reset(struct place *p);

#endif
