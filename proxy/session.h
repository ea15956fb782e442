/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One relayed connection: a client's socket that was accepted, the socket to where it wanted to
 * go, and a half for each direction between them. Belongs to the worker that accepted it, from
 * session_create() until it destroys itself or the worker destroys it.
 *
 * What one side does, the other side sees: an end of file is passed on when all bytes before it
 * have been, and the other direction goes on; a reset is passed on as a reset.
 */
#ifndef TPROXY_SESSION_H
#define TPROXY_SESSION_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "deadline.h"
#include "parse.h"
#include "pump.h"
#include "stats.h"

struct session;
struct tproxy_conn;
struct worker;

/* One direction. Reads and writes are waited for one at a time: that is the back-pressure. */
struct half {
	struct session *session;
	struct pump pump;
	struct event read_event;   /* the source is readable */
	struct event *write_event; /* the destination is writable; NULL until first waited for */
	bool reading;		   /* read_event is added */
	bool writing;		   /* write_event is added */
	bool done;		   /* the source's end of file has been passed on */
	bool queued;		   /* on worker::bulk, there is something for it to do */
	TAILQ_ENTRY(half) bulk_entry;
};

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
	TAILQ_ENTRY(session) deaf_entry;   /* worker::deaf, while one side is not read from */
	LIST_ENTRY(session) unacked_entry; /* worker::unacked */
	struct deadline deadline;	   /* in one of worker's queues, by state */
	struct worker *worker;
	enum session_state state;
	bool deaf;	/* on worker::deaf */
	bool unacked;	/* on worker::unacked */
	bool settled;	/* session_settle() */
	bool keeps_own; /* the client's own times of keepalive hold, not worker's keepidle_s */
	int client_fd;
	int server_fd;
	struct half up;	  /* client to server */
	struct half down; /* server to client */
	uint64_t started_ms;
	/* As of the last look, see session_expire(). */
	uint64_t moved, acknowledged; /* bytes, both ways */
	uint64_t quiet_since_ms;
	bool excused;	    /* there was something to do when its time was over */
	uint32_t handoff;   /* a count, see handoff.c */
	uint64_t cgroup_id; /* the client's, if it counts for worker_limit::per_cgroup; else 0 */
	union sockaddr_any client;
	union sockaddr_any dst;	 /* where the client wanted to go; no family: unknown */
	int dial_error;		 /* the errno of a connection that did not come about, or 0 */
	struct tproxy_conn *who; /* connlog's: the client's process, NULL unless it is logged */
};

/* Takes its turn, as one that was queued. May destroy its session, and no other. */
void session_run_bulk(struct half *h);

/*
 * Takes over both descriptors whatever happens: an accepted client and an unconnected socket that
 * is not redirected. Connects and relays, or resets the client. crowded: others came with this
 * one, or a crowd is in hand (crowd.h), so that segments count for more than its microseconds.
 */
void session_create(struct worker *worker, int client_fd, int server_fd,
		    const union sockaddr_any *client, bool crowded);

/*
 * Takes an open session off its worker, with its events; session_attach() gives it to another one,
 * in whose thread it runs from then on, and may destroy it.
 */
void session_detach(struct session *s);
void session_attach(struct session *s, struct worker *worker);

/* Gives it what only a session that lasts needs; most are over before that. */
void session_settle(struct session *s);

/* Sets worker's keepidle_s, for a session that is settled. */
void session_set_keepidle(struct session *s);

/* On worker::unacked, takes it off: the client's kernel gets its acknowledgement now. */
void session_acknowledge(struct session *s);

/* Closes both sides, with resets where reason wants them, logs, counts, frees. */
void session_destroy(struct session *s, enum close_reason reason);

/*
 * Its time is over, for this reason, or a part of it: destroys it, unless bytes have moved, also
 * out of the kernel's buffers, or there is something to do for it just now.
 */
void session_expire(struct session *s, enum close_reason reason);

/*
 * Has a side from which nothing is read been reset? Level-triggered events do not tell. May destroy
 * s, and no other.
 */
void session_probe(struct session *s);

/*
 * From now on, however fd is closed, its peer sees a reset, and what was queued for it is discarded
 * (SO_LINGER, socket(7)). All sockets of a session are so until it ends well: if the relay is
 * killed, the kernel closes them, and a part must not look like the whole. 0 or -errno.
 */
int session_abort_on_close(int fd);
/* Closes fd so that its peer sees a reset. */
void session_close_reset(int fd);
/*
 * What a socket needs before its session is created: session_abort_on_close(), and that an urgent
 * byte is read in its place (see pump.h). Accepted sockets take both from their listener.
 */
void session_prepare(int fd);

#endif
