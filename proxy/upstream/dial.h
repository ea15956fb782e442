/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A dial: reaching the destination of one session through an upstream or a group. It makes attempts
 * in the group's order. An attempt is connect(), TLS if the upstream has it, and the handshakes of
 * its protocol, at one address of one upstream. A failed attempt is followed by the next one
 * immediately. If an attempt has no result after 250 ms, the next one starts beside it: at most
 * WALK_ATTEMPTS run at the same time. The first whose handshake is done wins, and the others are
 * closed.
 *
 * Nothing of the client is read before that, so any attempt can be the first or the last one.
 *
 * An upstream that refuses the destination ends the dial: the error is the destination's, so no
 * other upstream is tried. If attempts that began earlier are under way, the refusal waits for
 * them, because the one that comes first in the order may serve what the next one refuses. After an
 * upstream that does not serve the request (HANDSHAKE_NOT_SERVED) the next one is tried, and this
 * dial does not return to the first. If no attempt succeeds, or all upstreams are down, the policy
 * of the dialled upstream or group decides (upstream_conf::when_down).
 *
 * A dial belongs to one session and its thread. It logs which upstream failed or refused what, and
 * changes of an upstream's state.
 */
#ifndef TPROXY_DIAL_H
#define TPROXY_DIAL_H

#include <stdbool.h>

#include "request.h"

/* In milliseconds. Only tests change them. */
extern struct dial_times {
	uint32_t wait_ms;    /* between walks while the policy is to wait */
	uint32_t resolve_ms; /* between walks while a name has no address yet */
} dial_times;

struct dial;

/*
 * Starts a dial and sets *ret_dial. done is called once, unless dial_free() is called before; it
 * may be called before this function returns. When done is called, the dial has ended and
 * *ret_dial is NULL. Without memory, done is called with ENOMEM.
 */
void dial_start(const struct dial_request *request, struct dial **ret_dial);

/*
 * Ends a dial without calling done, as when the client has gone. An upstream that has been silent
 * for its time has failed. NULL is ignored.
 */
void dial_free(struct dial *dial);
/* The same when this relay ends, which says nothing about the upstream. */
void dial_abandon(struct dial *dial);

/*
 * The session's timeout has expired. An upstream that has not answered counts as failed. Returns
 * true if the policy is to dial the destination itself, and that goes on: the caller gives it the
 * same time again. Otherwise done was called, with the error of an upstream that has answered for
 * this destination, or of the policy, or with ETIMEDOUT.
 */
bool dial_expire(struct dial *dial);
/*
 * Returns the longest time of a dial of the set, or NULL, if the session's timeout is timeout_ms;
 * 0 = without limit.
 */
uint64_t dial_longest_ms(const struct upstreams *set, uint64_t timeout_ms);

/* 0 at first. */
struct dial_limit {
	uint64_t doubled_until_ms; /* a dial with when-down = direct may be under way until then */
};

/*
 * As dial_longest_ms(), but for all dials under way at the time now_ms: after a reload older ones
 * still use their set. The caller asks more often than a dial takes.
 */
uint64_t dial_limit_ms(struct dial_limit *limit, const struct upstreams *set, uint64_t timeout_ms,
		       uint64_t now_ms);

/* True if an event of an attempt is pending, see expiry.c. */
bool dial_has_work(const struct dial *dial);

#endif
