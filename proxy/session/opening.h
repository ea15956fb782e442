/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The opening of a session: from the accepted client to relaying (state.h). */
#ifndef TPROXY_OPENING_H
#define TPROXY_OPENING_H

#include <stdbool.h>

#include "env.h"
#include "parse.h"

struct session;
struct tproxy_conn;

/*
 * Creates a session. Takes over both descriptors in any case: client_fd was accepted, upstream_fd
 * is not connected, is of the client's family, and connect4 does not redirect it. Connects where
 * route_of() says, directly or by a dial through an upstream, and relays, or resets the client. The
 * session may have ended when this returns.
 *
 * under_load: under load (admission.h). If the route is direct, the client's first data is read
 * before connect() then, and the last segment of the handshake goes with this data. It goes
 * immediately if the server has not answered by then. This saves about one segment in 20 for each
 * connection, but delays the wakeup of an idle server by some microseconds.
 */
void session_create(struct session_env *env, int client_fd, int upstream_fd,
		    const union sockaddr_any *client, bool under_load);

/*
 * For opening_pending.c. opening_new_session() creates a session and puts it on the lists; the rest
 * is set by the caller. Takes over the descriptors unless it returns NULL, as without memory.
 * client_fd: -1 if the client's connect() is pending.
 */
struct session *opening_new_session(struct session_env *env, int client_fd, int upstream_fd,
				    const union sockaddr_any *client);
/*
 * For opening_pending.c: s->dst is set. Counts the client for its quota, chooses the route and
 * takes it. May destroy the session. now_ms: of monotonic_coarse_ms().
 */
void opening_choose(struct session *s, const struct tproxy_conn *conn, uint64_t now_ms,
		    bool under_load);
/*
 * For opening_pending.c: server and client are connected. Finds the name, which decides nothing,
 * and relays. May destroy the session.
 */
void opening_find_late_name(struct session *s, const struct tproxy_conn *conn);

#endif
