/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A session: one relayed connection. It has the accepted socket of the client, the socket to the
 * original destination (the server), and a half for each direction between the two.
 *
 * States: CONNECTING until connect() to the server has finished, then OPEN, then HALF_CLOSED once
 * one half is done. When both halves are done the session ends. A FIN is passed on after all bytes
 * before it, and the other direction continues. A reset is passed on as a reset.
 *
 * A session belongs to one worker and is used in its thread only. It may move to the worker's
 * partner and back (handoff.h). It ends in session_destroy() with one reason, and frees itself.
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
#include "deadline.h"
#include "half.h"

struct session;
struct tproxy_conn;
struct worker;

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
	TAILQ_ENTRY(session) entry;	   /* worker::sessions */
	TAILQ_ENTRY(session) deaf_entry;   /* worker::deaf, the probe list */
	LIST_ENTRY(session) unacked_entry; /* worker::unacked */
	struct deadline deadline;	   /* in the worker's queue of this state */
	struct worker *worker;
	enum session_state state;
	bool deaf;	/* on worker::deaf: a side is not polled, so epoll reports no reset */
	bool unacked;	/* on worker::unacked */
	bool settled;	/* session_settle() has run */
	bool keeps_own; /* keepalive as the client set it, not by worker::keepidle_s */
	int keepidle_s; /* as tuning_set_keepidle() has set it */
	int client_fd;
	int server_fd;
	struct half up;	  /* client to server */
	struct half down; /* server to client */
	uint64_t started_ms;
	/* State of the last check for progress, see session_expire(). */
	uint64_t moved, acknowledged; /* bytes, both directions together */
	uint64_t quiet_since_ms;      /* monotonic_coarse_ms() of the last progress */
	bool excused;		      /* an event was pending at the timeout: one more interval */
	uint32_t handoff;	      /* counter of handoff.c */
	uint64_t cgroup_id; /* the client's, if counted in worker_limit::per_cgroup; otherwise 0 */
	union sockaddr_any client;
	union sockaddr_any dst;	 /* original destination; AF_UNSPEC: unknown */
	int dial_error;		 /* errno of a failed connect(), or 0 */
	struct tproxy_conn *who; /* owned by connlog.c: the client's process; NULL: not logged */
};

/* Runs a half that was queued on worker::bulk. May destroy its session, and no other. */
void session_run_bulk(struct half *h);

/*
 * Creates a session. Takes over both descriptors in any case: client_fd was accepted, server_fd is
 * not connected and connect4 does not redirect it. Connects to the original destination and relays,
 * or resets the client. crowded: under load (crowd.h), save segments rather than microseconds, see
 * dial_start().
 */
void session_create(struct worker *worker, int client_fd, int server_fd,
		    const union sockaddr_any *client, bool crowded);

/*
 * Takes an open session and its events off its worker, in that worker's thread. session_attach()
 * gives it to another worker, in the other worker's thread, and may destroy it.
 */
void session_detach(struct session *s);
void session_attach(struct session *s, struct worker *worker);

/*
 * Settles a session: sets up keepalive and the client's other options on the server's socket. Done
 * by the tick, because most sessions end before it and need neither.
 */
void session_settle(struct session *s);

/* Takes s off worker::unacked and has the kernel acknowledge the client's data now. */
void session_acknowledge(struct session *s);

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

/*
 * Updates the membership on the probe list: a side that is not read from may be reset without an
 * event. The worker's tick probes the sessions on this list, see session_probe().
 */
void session_watch(struct session *s);

/*
 * For dial.c. session_woke(): every event callback calls this first; it feeds the accept throttle
 * (crowd.h) and the spin heuristic (busypoll.h). session_open(): connect() has succeeded, starts
 * both halves; may destroy the session. session_reset_by(): the side by has been reset; what it
 * sent before goes to the other side, as far as that takes it; destroys the session.
 */
void session_woke(struct session *s);
void session_open(struct session *s);
void session_reset_by(struct session *s, enum session_side by);

#endif
