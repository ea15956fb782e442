/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the end of an attempt means for its walk (walk.h), for the health of its upstream and for
 * the log. An attempt ends in one of these ways:
 *
 *   done      it has reached the destination. Earlier attempts that were slower have failed.
 *   refused   its upstream has refused the destination. That is held back while earlier attempts
 *             run, because one of them may serve what this one refuses.
 *   declined  its upstream does not serve the request, and is asked no more in this walk.
 *   local     this host could not make it. That says nothing of the upstream.
 *   failed    its upstream has failed, unless the silence may be the destination's.
 */
#ifndef TPROXY_OUTCOME_H
#define TPROXY_OUTCOME_H

#include <stdbool.h>

#include "walk_state.h"

/*
 * Notes the end of an attempt, and closes it unless it is done. Returns WALK_RUNS if the walk may
 * go on, WALK_DONE, or WALK_REFUSED with walk::failure set.
 */
enum walk_progress outcome_note(struct walk *w, struct attempt *a, enum attempt_progress progress);

/* True if the held refusal waits for the attempt: an earlier one at another upstream. */
bool outcome_is_awaited(const struct walk *w, const struct attempt *a);

/* True if the attempt was given up for a silence that may be the destination's. */
bool outcome_may_be_destination(const struct attempt *a);

#endif
