/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A session: one relayed connection. It has the accepted socket of the client, the socket to the
 * original destination or to an upstream (the server), and a half for each direction between the
 * two.
 *
 * state.h has its phases, from ACCEPTED to HALF_CLOSED. opening.h creates sessions. When both
 * halves are done the session ends. A FIN is passed on after all bytes before it, and the other
 * direction continues. A reset is passed on as a reset.
 *
 * A session belongs to one environment (env.h) and is used in its thread only. It may move to
 * another environment. It ends in session_destroy() with one reason, and frees itself.
 *
 * Functions that "may destroy" a session free it: the caller must not use it afterwards.
 */
#ifndef TPROXY_SESSION_H
#define TPROXY_SESSION_H

#include <stdbool.h>

#include "env.h"
#include "parse.h"
#include "report/stats.h"
#include "state.h"

/*
 * Runs a half that session_env::defer has deferred. May destroy its session, and no other.
 */
void session_run(struct half *h);

/*
 * Takes a session that relays, and its events, off its environment, in that thread.
 * session_attach() gives it to another environment, in the other thread, and may destroy it.
 */
void session_detach(struct session *s);
void session_attach(struct session *s, struct session_env *env);

/*
 * Sets up keepalive and the client's other options on the server's socket. The caller does this
 * some time after its start, because most sessions end before and need neither. May be called
 * again.
 */
void session_start_keepalive(struct session *s);

/* session_env::keepidle_s has changed: applies it to a session that has keepalive. */
void session_set_keepidle(struct session *s);

/*
 * For opening.c: the server is connected, and bytes may go there. Starts both halves. has_sent: the
 * client has had the time to send, so that its socket is read at once. May destroy the session.
 */
void session_start_relaying(struct session *s, uint64_t now_ms, bool has_sent);
/*
 * For opening.c: gives s a detour, which the caller then writes to. Returns false if memory is
 * short. It is freed with the session.
 */
bool session_take_detour(struct session *s);
/* For opening.c: takes over the bridge of a dial that has succeeded; NULL: there is none. */
void session_take_bridge(struct session *s, struct tls_bridge *bridge);
/* For opening.c: an event of a half, see half_on_ready(). RELAYING, HALF_CLOSED. */
void session_on_ready(struct half *h, bool again);
/*
 * The side by has been reset. Passes on the data that it sent before, as far as the other side
 * takes them; nothing passes while the session dials. Destroys the session, at once or, if its
 * client has to be joined first, when that has an end.
 */
void session_reset_by(struct session *s, enum session_side by);
/*
 * For opening.c: notes that connections to the destination fail, for the next clients. Does nothing
 * if the route depends on the name: the next connection may have another one; and if connect() of
 * this client fails with the error itself.
 */
void session_note_error(struct session *s, int error);
/* For opening.c: there was no memory for a session. Counts and reports its end. */
void session_not_created(struct session_env *env);

/*
 * Ends s without a line in the log or a count, because its client is going to be accepted instead.
 */
void session_drop(struct session *s);
/* Closes both sides, with a reset unless reason is CLOSE_DONE, logs and counts the end, frees s. */
void session_destroy(struct session *s, enum close_reason reason);

/*
 * The timeout of s, or a part of it (deadline_queue::parts), has expired. Destroys s with reason,
 * unless bytes have moved, also out of the kernel's buffers, or an I/O event is pending. Otherwise
 * the interval starts again.
 */
void session_expire(struct session *s, enum close_reason reason);

/*
 * Checks whether a side that is not read from has been reset; level-triggered events do not report
 * that. If the client's connect() is pending, checks whether it has given up. May destroy s, and no
 * other session.
 */
void session_probe(struct session *s);

#endif
