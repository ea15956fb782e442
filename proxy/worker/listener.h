/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A listener: the listening sockets of a worker, of one address family. Each socket has a port of
 * its own, which it shares with its sink if it is one of a pair (map_pairs in tproxy_abi.h).
 *
 * Admission: a client is accepted only if it can be served. At the session limit, or without a
 * descriptor or memory for both sides, the listener pauses: it stops polling, and clients stay in
 * the backlog. It resumes when a session ends or a short timer fires, so it never spins.
 *
 * Under load, clients wait in the backlog for a moment too (admission.h).
 *
 * A listener that is replaced or drained is retired: no events, and the worker serves it by timer
 * until its backlog is empty. It is then closed.
 *
 * Functions belong to the worker's thread, except listener_bind(), which is for the main thread.
 */
#ifndef TPROXY_LISTENER_H
#define TPROXY_LISTENER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "session/admission.h"
#include "spare.h"
#include "tproxy_abi.h"

struct event;
struct log_episode;
struct pending_maps;
struct pending_ring;
struct registration;
struct session_env;
struct session_limit;
struct tick;
union sockaddr_any;

/* What the listeners of a worker need of it. */
struct listener_env {
	struct session_env *sessions; /* of the sessions that they create */
	struct session_limit *limit;
	struct log_episode *paused;
	struct tick *tick;
	_Atomic bool lost; /* a listening socket became unusable; any thread */
};

/*
 * The descriptors of a listening socket, of its sink, or -1: it is not one of a pair, and of its
 * guard, or -1: see guard_open().
 */
struct listener_fds {
	int fd, sink_fd, guard_fd;
};

#define LISTENER_FDS_NULL                                                                          \
	{                                                                                          \
		.fd = -1, .sink_fd = -1, .guard_fd = -1                                            \
	}

struct listener_socket {
	struct listener *listener;
	struct listener_fds fds;  /* owned */
	struct event *sink_event; /* readable: the sink was destroyed */
	struct event *event;	  /* readable: a client is in the backlog */
	bool destroyed;		  /* by SOCK_DESTROY of sock_diag(7): it does not listen any more */
	uint32_t left;		  /* retired: clients still to be accepted */
	struct admission_wait wait;
};

struct listener {
	struct listener_env *env;
	sa_family_t family;
	struct listener_socket sockets[TPROXY_PORTS_MAX];
	uint32_t n_sockets; /* 0: closed */
	struct spare spare;
	struct event *resume; /* timer while paused; NULL: retired */
	bool paused;
	bool counted; /* retired: sockets[].left is set */
};

/* Closes all, and resets *fds to LISTENER_FDS_NULL. */
void listener_fds_close(struct listener_fds *fds);

/*
 * Makes a listening socket for *addr and marks it; registration_add_listener() is next. With port 0
 * the kernel chooses a port. Returns a descriptor, owned by the caller, or -errno, which is logged.
 */
int listener_bind(const struct registration *reg, const union sockaddr_any *addr, int backlog);

/*
 * As listener_bind(), makes a pair for connections that are pending in ring. by_default: connect()
 * is honest unless the rule says otherwise. Does not log. Returns 0 with *ret_fds set, owned by the
 * caller, or -errno. -EPERM, -EINVAL, -ENOPROTOOPT: this host or its kernel does not allow it.
 */
int listener_bind_pair(const struct registration *reg, struct pending_maps *maps,
		       const struct pending_ring *ring, bool by_default,
		       const union sockaddr_any *addr, int backlog, struct listener_fds *ret_fds);
/* The least TTL or hop limit of a sink. No packet of this host has it, unless the host's default is
 * that. */
#define LISTENER_SINK_TTL 255
/* True if a listening socket is the sink of a pair. */
bool listener_is_sink(int fd);

/*
 * Initialises a listener with n listening sockets of one family, takes over the descriptors and
 * starts polling. Without memory for the events, closes them and sets listener_env::lost.
 */
void listener_init(struct listener *l, struct listener_env *env, sa_family_t family,
		   const struct listener_fds *fds, uint32_t n);
/* Closes all sockets and resets *l to LISTENER_NULL. */
void listener_finish(struct listener *l);

#define LISTENER_NULL                                                                              \
	{                                                                                          \
		.spare = SPARE_NULL                                                                \
	}

/*
 * Retires a listener: closes what *to had, moves *from to *to without its events, and resets *from.
 * The caller then calls listener_serve_retired() from time to time.
 */
void listener_retire(struct listener *to, struct listener *from);

enum listener_left {
	LISTENER_MORE,	 /* clients wait: call again in the next pass of the event loop */
	LISTENER_PAUSED, /* a client waits and cannot be served now */
	LISTENER_EMPTY,
};

/*
 * Accepts clients of a retired listener, a few dozen for each socket. last: accepts only the
 * clients that were in the backlog at the first call with last. Later ones were not redirected
 * here, and may be a flood.
 */
enum listener_left listener_serve_retired(struct listener *l, bool last);
/*
 * Resumes polling if the listener is paused. Called after a session has ended, but not while a
 * listener accepts.
 */
void listener_resume(struct listener *l);

/* Counts that clients wait, and logs why, once for each episode. */
void listener_note_paused(struct listener_env *env, const char *why);

#endif
