/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is different in a session whose client's connect() is pending. It dials first, and is joined
 * to its client (join.h) when the destination is reached. If it is not, connect() of the client
 * fails. Until then detour::join is set, and the session has no client socket.
 *
 * Nothing here frees a session.
 */
#ifndef TPROXY_JOINING_H
#define TPROXY_JOINING_H

#include <stdbool.h>

#include "report/stats.h"

struct join;
struct session;

/* The destination is reached. Joins the client: the callback of detour::join follows, perhaps
 * before this returns, and may free the session. */
void joining_start(struct session *s);
/* The server has reset, after it had been reached. Joins the client, so that it gets the server's
 * data and the reset. As joining_start(). */
void joining_reset_by_server(struct session *s);
/*
 * The client is at the other end of the join's socket: gives the session that socket. The caller
 * owns the join then, and detour::join is NULL.
 */
struct join *joining_take_client(struct session *s);
/* The client has to be accepted first: answers and counts. */
void joining_accept_instead(struct session *s, enum honest_count why);
/* The session ends without its client: answers and counts. */
void joining_settle(struct session *s, enum close_reason reason);
/* True if the client's own connect() fails with error, so that the next one need not. */
bool joining_tells(const struct session *s, int error);

#endif
