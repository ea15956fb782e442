/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The opening of a session whose client's connect() is pending (joining.h): its begin and its end.
 */
#ifndef TPROXY_OPENING_PENDING_H
#define TPROXY_OPENING_PENDING_H

#include <stdbool.h>

struct pending;
struct session_env;
struct tproxy_conn;

/*
 * Creates the session of a pending connect(), and dials as session_create() does. conn: what the
 * kernel half has recorded, copied. Takes over upstream_fd in any case: it is not connected, is of
 * the family of conn->relay, and connect4 does not redirect it. The kernel half gets an answer in
 * any case, unless the client gives up. The session may have ended when this returns.
 *
 * If the connection must be accepted before it can be dialled, the answer is ACCEPT, and the
 * session ends without a line in the log: session_create() makes another one.
 */
void session_create_pending(struct session_env *env, const struct pending *pending,
			    const struct tproxy_conn *conn, int upstream_fd);
/* The client of this pending connect() has given up: ends its session, if there is one. */
void session_pending_gone(struct session_env *env, const struct pending *pending);
/* True if this pending connect() has a session. An event may come twice. */
bool session_pending_known(const struct session_env *env, const struct pending *pending);

#endif
