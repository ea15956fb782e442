/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state of a session (session.h) and its phases:
 *
 *   ACCEPTED     the client is accepted, or waits in connect() (joining.h); destination and route
 *                are looked up at once
 *   SNIFFING     the name of the destination is to be found before the route is chosen (naming.h)
 *   CONNECTING   direct: connect() to the original destination has not finished
 *   DIALLING     through an upstream: a dial is under way (dial.h), with its handshakes
 *   RELAYING     both halves run
 *   HALF_CLOSED  one half is done, the other one runs
 *
 * A session goes through them in this order, most without SNIFFING, with either CONNECTING or
 * DIALLING, and may end in each. Until RELAYING nothing is read from the client, except by
 * pump_prefetch(): a FIN or a reset of the client waits in its socket.
 */
#ifndef TPROXY_STATE_H
#define TPROXY_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ack.h"
#include "deadline.h"
#include "half.h"
#include "parse.h"
#include "progress.h"

struct dial;
struct join;
struct known_name;
struct naming;
struct session_env;
struct tls_bridge;
struct tproxy_conn;
struct upstream;
struct upstreams;

enum session_side {
	SESSION_CLIENT,
	SESSION_SERVER,
};

enum session_phase {
	SESSION_ACCEPTED,
	SESSION_SNIFFING,
	SESSION_CONNECTING,
	SESSION_DIALLING,
	SESSION_RELAYING,
	SESSION_HALF_CLOSED,
};

/*
 * What a session has that does not simply connect to its destination: its client waits in
 * connect(), the destination is to be named, or there is an upstream. Most sessions have none, and
 * those that do nothing take little memory.
 */
struct detour {
	/* owned: the client's connect() is pending, there is no client socket (joining.h) */
	struct join *join;
	struct naming *naming;	     /* owned; while the name is to be found */
	struct known_name *known;    /* owned: what the client's bytes tell; NULL: nothing */
	struct dial *dial;	     /* owned; DIALLING */
	struct upstreams *upstreams; /* a reference; NULL: the route is direct */
	struct upstream *upstream;   /* of the set: connected through it, or it failed last */
	struct tls_bridge *bridge; /* owned; NULL: no TLS. The upstream's socket is its near end */
	const char *why;	   /* text of a failed dial, for the log; or NULL */
	uint32_t rule_upstream;	   /* tproxy_conn.upstream; 0: the client's rule names none */
};

struct session {
	TAILQ_ENTRY(session) entry;	     /* session_env::sessions */
	TAILQ_ENTRY(session) unpolled_entry; /* session_env::unpolled, the probe list */
	struct deadline deadline;	     /* in a queue of the environment, by phase */
	struct session_env *env;
	enum session_phase phase : 8;
	bool unpolled;	    /* on the probe list: a side is not polled, so epoll reports no reset */
	bool has_keepalive; /* session_start_keepalive() has run */
	bool keeps_own;	    /* keepalive as the client set it, not by session_env::keepidle_s */
	bool opened;	    /* the server is connected; RELAYING follows, after client and name */
	bool acks_late;	    /* TCP_QUICKACK of the server's socket is off: RELAYING turns it on */
	bool name_decides;  /* the route may depend on the name of the destination */
	uint16_t keepidle_s; /* session_env::keepidle_s as it was applied last */
	uint32_t handoff;    /* counter of handoff.c */
	int connect_error;   /* errno of a failed connect() or dial, or 0 */
	union sockaddr_any client;
	union sockaddr_any dst; /* original destination; AF_UNSPEC: unknown */
	struct half c2s;	/* client to server */
	struct half s2c;	/* server to client */
	struct ack ack;		/* owed to the client */
	uint64_t started_ms;
	struct progress progress;	 /* see expiry.c */
	uint64_t cgroup_id;		 /* the client's, if counted for its quota; otherwise 0 */
	struct tproxy_conn *client_info; /* owned: the client's process; NULL: not logged */
	struct detour *detour;		 /* owned; NULL: none. Read by detour_of() */
};

/* Of a session without one, all members are NULL. */
static inline const struct detour *detour_of(const struct session *s)
{
	static const struct detour none;

	return s->detour ? s->detour : &none;
}

/* The sockets of s. Both halves have both; session_destroy() closes them. DIALLING: no upstream's
 * socket, -1. While the client's connect() is pending: no client's socket, -1. */
static inline int session_client_fd(const struct session *s)
{
	return s->c2s.pump.src_fd;
}

static inline int session_upstream_fd(const struct session *s)
{
	return s->c2s.pump.dst_fd;
}

static inline struct session *half_session(struct half *h)
{
	size_t offset =
		h->from_server ? offsetof(struct session, s2c) : offsetof(struct session, c2s);

	return (struct session *)((char *)h - offset);
}

#endif
