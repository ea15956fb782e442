/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The opening of a session: from the accepted client to relaying (state.h). */
#ifndef TPROXY_OPENING_H
#define TPROXY_OPENING_H

#include <stdbool.h>

#include "env.h"
#include "parse.h"

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

#endif
