/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connects a session's socket to the original destination. */
#ifndef TPROXY_DIAL_H
#define TPROXY_DIAL_H

#include <stdbool.h>

struct session;

/*
 * Connects, and has session_open() called when that has succeeded. Under load the client's first
 * data is read before connect(), and the last segment of the handshake goes with this data. It goes
 * immediately if the server has not answered by then. This saves about one segment in 20 for each
 * connection, but delays the wakeup of an idle server by some microseconds, so it is done only
 * under load. May destroy the session.
 */
void dial_start(struct session *s, bool crowded);

/*
 * The server cannot be reached, for the reason of errno error: notes the error for the next
 * clients, logs it, and destroys the session.
 */
void dial_failed(struct session *s, int error);

#endif
