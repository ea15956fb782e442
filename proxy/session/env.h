/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Environment of sessions: what they need of the thread that runs them, and the lists and queues
 * that they are on. Each worker has one (worker.h); a test makes its own. Sessions thus know no
 * worker.
 *
 * Except for struct session_shared, all belongs to one thread.
 */
#ifndef TPROXY_ENV_H
#define TPROXY_ENV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ack.h"
#include "spin.h"
#include "admission.h"
#include "deadline.h"
#include "half.h"
#include "join.h"
#include "kernel/marks.h"
#include "log.h"
#include "pump.h"
#include "quota.h"
#include "report/stats.h"
#include "upstream/sniff.h"

struct event_base;
struct resolver_port;
struct session;
struct tls_home;
struct upstreams;

/* Shared by the sessions of all threads. */
struct session_shared {
	struct quota per_cgroup;
	struct log_episode no_memory, connect_failed;
	struct log_limit unknown_upstream;
	struct sniff_silent silent;
};

TAILQ_HEAD(session_list, session);

struct session_env {
	struct event_base *base;
	struct session_shared *shared;
	struct pump_env pump_env;
	struct marks marks;
	struct stats stats;
	struct spin spin;
	bool pass_mark; /* --pass-mark */
	bool exempt;	/* upstream sockets need no mark, as listener.c has found last */
	struct upstreams *upstreams;	    /* of new sessions, a reference; NULL: all are direct */
	struct tls_home *tls;		    /* of TLS bridges; NULL: none can be made */
	const struct pending_maps *pending; /* NULL: no connect() is pending */
	struct resolver_port *resolver_port; /* owned, made when it is needed; or NULL */
	int keepidle_s;			     /* TCP_KEEPIDLE of server sockets; 0: no keepalive */

	struct session_list sessions;	/* newest first; sessions of a partner at the tail */
	struct session *oldest_new;	/* the oldest session without keepalive, or NULL */
	struct admission admission;	/* counts sessions without keepalive */
	TAILQ_HEAD(, session) unpolled; /* probe list: epoll reports no reset; the next one first */
	uint32_t n_unpolled;
	struct ack_queue acks;
	struct deadline_queue connecting, idle, half_closed;
	struct join_table joins; /* of sessions whose client's connect() is pending */
	struct half_queue bulk;

	/*
	 * Callbacks to the owner of the environment; each may be NULL.
	 *
	 * defer: an event has made a half of a session ready that relays. Returns true if the half
	 * runs later, by session_run(), or if its session was given to another thread; the caller
	 * must not touch the session then. Otherwise the half runs at once.
	 *
	 * on_end: a session has ended, and is freed. It may have been created in the same pass of
	 * the event loop, by the caller's caller.
	 */
	void *owner;
	bool (*defer)(struct session_env *env, struct half *h);
	void (*on_end)(struct session_env *env);
};

/*
 * Initialises the lists and queues. The rest is zero, but for what the caller sets: base, shared,
 * pump_env, marks, options and callbacks.
 */
void env_init(struct session_env *env);

/* Puts a new session on the lists. */
void env_add(struct session_env *env, struct session *s);
/*
 * Adds a session to the lists of env after another environment has removed it from its own lists.
 * The session has keepalive.
 */
void env_add_again(struct session_env *env, struct session *s);
/* Takes s off all lists and queues. Without keepalive it is still counted as a new session. */
void env_remove(struct session *s);
/* Stops counting s as a new session (admission.h). */
void env_end_new(struct session *s);
/*
 * Updates the membership on the probe list: a side that is not read from may be reset without an
 * event. The owner of the environment probes the sessions on this list, see session_probe().
 */
void env_watch(struct session *s);

#endif
