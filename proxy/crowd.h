/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What has been begun is finished first. Where more clients come than a worker can serve at once,
 * one that waits in the backlog costs nothing; the more have been accepted, the more CPU takes each
 * of them (tests/bench). So while a crowd of new sessions keeps the worker busy, clients wait until
 * it has served all that is ready, or for 10 ms.
 *
 * New is a session that has not been settled (session_settle()). Those that last are not counted:
 * they may be busy for ever. Nor are those that wait for a server: they make no work.
 */
#ifndef TPROXY_CROWD_H
#define TPROXY_CROWD_H

#include <stdbool.h>
#include <stdint.h>

/* A worker's new sessions. */
struct crowd {
	uint32_t sessions;
	uint64_t served; /* events of theirs, since the worker began */
};

/* For each listening socket, all zero at first. */
struct crowd_wait {
	uint64_t since_ms; /* since when a client waits, 0: none does */
	uint64_t served;   /* crowd::served when it was looked at last */
};

/* Are there so many of them that each one's microseconds count for less than those of all? */
bool crowd_is(const struct crowd *crowd);

/*
 * A client is there: is it to wait? To be asked in each turn of the worker's loop. now_ms: of
 * deadline_now_ms().
 */
bool crowd_wait(struct crowd_wait *wait, const struct crowd *crowd, uint64_t now_ms);

#endif
