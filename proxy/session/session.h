/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A session: one relayed connection. It has the accepted socket of the client, the socket to the
 * original destination (the server), and a half for each direction between the two.
 *
 * States: CONNECTING until connect() to the server has finished, then OPEN, then HALF_CLOSED once
 * one half is done. When both halves are done the session ends. A FIN is passed on after all bytes
 * before it, and the other direction continues. A reset is passed on as a reset.
 *
 * A session belongs to one environment (env.h) and is used in its thread only. It may move to
 * another environment. It ends in session_destroy() with one reason, and frees itself.
 *
 * Functions that "may destroy" a session free it: the caller must not use it afterwards.
 */
#ifndef TPROXY_SESSION_H
#define TPROXY_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "parse.h"
#include "report/stats.h"
#include "ack.h"
#include "deadline.h"
#include "env.h"
#include "half.h"
#include "progress.h"

struct tproxy_conn;

enum session_side {
	SESSION_CLIENT,
	SESSION_SERVER,
};

enum session_state {
	SESSION_CONNECTING, /* connect() has not finished; nothing is read */
	SESSION_OPEN,
	SESSION_HALF_CLOSED, /* one of the halves is done */
};

struct session {
	TAILQ_ENTRY(session) entry;	 /* session_env::sessions */
	TAILQ_ENTRY(session) deaf_entry; /* session_env::deaf, the probe list */
	struct deadline deadline;	 /* in the environment's queue of this state */
	struct session_env *env;
	enum session_state state;
	bool deaf;	/* on the probe list: a side is not polled, so epoll reports no reset */
	bool settled;	/* session_settle() has run */
	bool keeps_own; /* keepalive as the client set it, not by session_env::keepidle_s */
	int keepidle_s; /* session_env::keepidle_s as it was applied last */
	int client_fd;
	int server_fd;
	struct half up;	  /* client to server */
	struct half down; /* server to client */
	struct ack ack;	  /* owed to the client */
	uint64_t started_ms;
	struct progress progress; /* see session_expire() */
	uint32_t handoff;	  /* counter of handoff.c */
	uint64_t
		cgroup_id; /* the client's, if counted in session_shared::per_cgroup; otherwise 0 */
	union sockaddr_any client;
	union sockaddr_any dst;	 /* original destination; AF_UNSPEC: unknown */
	int dial_error;		 /* errno of a failed connect(), or 0 */
	struct tproxy_conn *who; /* owned: the client's process; NULL: not logged */
};

/* Initialises an environment: all zero but base, shared and the callbacks, which the caller sets.
 */
void session_env_init(struct session_env *env);

/*
 * Runs a half that session_env::defer has deferred. May destroy its session, and no other.
 */
void session_run(struct half *h);

/*
 * Creates a session. Takes over both descriptors in any case: client_fd was accepted, server_fd is
 * not connected and connect4 does not redirect it. Connects to the original destination and relays,
 * or resets the client. The session may have ended when this returns.
 *
 * crowded: under load (crowd.h). The client's first data is read before connect() then, and the
 * last segment of the handshake goes with this data. It goes immediately if the server has not
 * answered by then. This saves about one segment in 20 for each connection, but delays the wakeup
 * of an idle server by some microseconds.
 */
void session_create(struct session_env *env, int client_fd, int server_fd,
		    const union sockaddr_any *client, bool crowded);

/*
 * Takes an open session and its events off its environment, in that thread. session_attach() gives
 * it to another environment, in the other thread, and may destroy it.
 */
void session_detach(struct session *s);
void session_attach(struct session *s, struct session_env *env);

/*
 * Settles a session: sets up keepalive and the client's other options on the server's socket. Done
 * some time after its start, because most sessions end before and need neither.
 */
void session_settle(struct session *s);

/* session_env::keepidle_s has changed: applies it to a settled session. */
void session_set_keepidle(struct session *s);

/* Closes both sides, with a reset unless reason is CLOSE_DONE, logs and counts the end, frees s. */
void session_destroy(struct session *s, enum close_reason reason);

/*
 * The timeout of s, or a part of it (deadline_queue::looks), has expired. Destroys s with reason,
 * unless bytes have moved, also out of the kernel's buffers, or an I/O event is pending. Otherwise
 * the interval starts again.
 */
void session_expire(struct session *s, enum close_reason reason);

/*
 * Checks whether a side that is not read from has been reset; level-triggered events do not report
 * that. May destroy s, and no other session.
 */
void session_probe(struct session *s);

#endif
