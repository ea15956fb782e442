/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A thread with an event base, listeners and the sessions that it accepted. Workers share nothing
 * but the count of sessions. The main thread tells them what to do through worker_listen(),
 * worker_configure(), worker_drain() and worker_stop(), which may be called at any time; all else
 * here belongs to the worker's own thread.
 */
#ifndef TPROXY_WORKER_H
#define TPROXY_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "busypoll.h"
#include "crowd.h"
#include "deadline.h"
#include "listener.h"
#include "log.h"
#include "pipes.h"
#include "pump.h"
#include "quota.h"
#include "registration.h"
#include "stats.h"
#include "tproxy_abi.h"

struct event;
struct event_base;
struct half;
struct options;
struct session;

/* What all workers share. */
struct worker_limit {
	_Atomic uint32_t sessions;
	_Atomic uint32_t max; /* of sessions */
	struct quota per_cgroup;
	struct busypoll_turn looking;
	struct log_episode paused, no_memory, dial_failed;
};

/* What options say that may change while it runs. */
struct worker_timeouts {
	uint64_t connect_ms, idle_ms, half_closed_ms;
	uint64_t error_memory_ms;
	uint64_t keepalive_ms;
};

/* What a worker serves with. */
struct worker_sockets {
	int listen_fds[_TPROXY_FAMILY_MAX][TPROXY_PORTS_MAX];
	uint32_t n_listen[_TPROXY_FAMILY_MAX];
	struct registration_handle handle;
};

#define WORKER_SOCKETS_NULL                                                                        \
	{                                                                                          \
		.handle = REGISTRATION_HANDLE_NULL                                                 \
	}

void worker_sockets_close(struct worker_sockets *sockets);

TAILQ_HEAD(session_list, session);

struct worker {
	pthread_t thread;
	bool started;
	bool is_bulk;			  /* it has sessions from its partner only, see handoff.h */
	struct worker *partner;		  /* NULL: none */
	_Atomic bool ended;		  /* its thread hands nothing over any more */
	_Atomic bool failed;		  /* the loop has, and the thread has ended */
	_Atomic bool lost_listener;	  /* see worker_has_lost_listener() */
	_Atomic uint32_t asked, answered; /* worker_is_stuck() */
	struct event_base *base;
	struct busypoll busypoll;
	struct worker_limit *limit;
	struct listener listeners[_TPROXY_FAMILY_MAX];
	struct listener retired[_TPROXY_FAMILY_MAX]; /* those before, until closed */
	uint64_t retired_ms;			     /* when */
	struct registration_handle handle;
	struct session_list sessions; /* the newest first */
	struct session *unsettled;    /* the oldest that is not settled, or NULL */
	struct crowd crowd;	      /* of the sessions, those that are new */
	TAILQ_HEAD(, session) deaf;   /* those to be probed for resets, the next one first */
	uint32_t n_deaf;
	uint32_t probe_left;	      /* of these, in the pass that is under way */
	uint64_t probed_ms;	      /* when that has begun */
	uint32_t walk_most;	      /* sessions that are probed, or settled, in one tick */
	LIST_HEAD(, session) unacked; /* what these clients have said is not acknowledged yet */
	uint32_t n_unacked;
	uint64_t unacked_ns; /* when the first of them came */
	struct deadline_queue connecting, idle, half_closed;
	TAILQ_HEAD(, half) bulk; /* those that wait for their turn */
	uint32_t n_bulk;
	struct event *bulk_turn; /* of some of them, when all else that is ready has been done */
	struct event *tick;	 /* looks at the queues' heads */
	bool ticking;
	/* It fires at least this often while there are sessions: one that comes meanwhile may have
	 * less time than those before. */
	uint64_t tick_most_ms;
	struct event *closing; /* while there are retired listeners */
	bool pass_mark;	       /* --pass-mark */
	int keepidle_s; /* idle for so long, a server is asked whether it is there; 0: never */
	struct pipes pipes;
	struct pump_tools tools;
	struct stats stats;
	bool draining;
	int done_fd; /* eventfd, not owned: written when the thread has ended its work */

	struct event *wake;
	int wake_fd; /* eventfd */
	pthread_mutex_t inbox_lock;
	struct {
		struct worker_sockets sockets;
		struct worker_timeouts timeouts;
		struct session_list sessions; /* from the partner */
		bool listen, configure, drain, stop;
		bool closed; /* no more sessions are taken */
	} inbox;
};

/* 0 or -errno. pipes_max: see pipes.h. On failure worker_finish() is to be called too. */
int worker_init(struct worker *worker, const struct options *options, struct worker_limit *limit,
		uint32_t pipes_max, int done_fd);
int worker_start(struct worker *worker);
/* bulk gets the bulk transfers of worker, see handoff.h. Before either is started. */
void worker_pair(struct worker *worker, struct worker *bulk);
/* Waits until the thread has ended. */
void worker_join(struct worker *worker);
/* The threads of it and of its partner have been joined, or never started. */
void worker_finish(struct worker *worker);

/*
 * Listeners and a registration, instead of those before. Takes over all descriptors. Clients that
 * are on their way to those before are still served, as by worker_drain().
 */
void worker_listen(struct worker *worker, const struct worker_sockets *sockets);
/* New timeouts, for sessions that exist too. */
void worker_configure(struct worker *worker, const struct options *options);
/* Accept for 200 ms more, and then what is in the backlog, close the listener, end when the last
 * session has. */
void worker_drain(struct worker *worker);
/* Reset all sessions and end. */
void worker_stop(struct worker *worker);

/*
 * Is it one that nobody accepts from any more, so that new ones are needed? Tells once. Both this
 * and the next one are for the main thread.
 */
bool worker_has_lost_listener(struct worker *worker);
/*
 * To be called every second, which asks it for a sign of life: has it given none for three times?
 */
bool worker_is_stuck(struct worker *worker);

/* One more session: false if the limit is reached. */
bool worker_reserve_session(struct worker *worker);
void worker_release_session(struct worker *worker);
/* A session that was created is gone. */
void worker_on_session_end(struct worker *worker);
/*
 * A half that moves bulk data is ready: it gets its turn after all small talk that is ready now,
 * and after those that were queued before it. false: not queued, it is to run now, as the only
 * session is, or as all are without memory for a queue.
 */
bool worker_queue_bulk(struct worker *worker, struct half *h);
/* It has ended, or its turn has come. */
void worker_unqueue_bulk(struct worker *worker, struct half *h);
/*
 * What this session's client has said is to be acknowledged (session_acknowledge()) before the
 * worker sleeps, or after a millisecond if it does not. forget: there was an answer.
 */
void worker_owe_ack(struct worker *worker, struct session *s);
void worker_forget_ack(struct worker *worker, struct session *s);
/* Something is in its inbox. */
void worker_wake(struct worker *worker);
/* There is a session now: see to it that the timer for timeouts runs. */
void worker_need_tick(struct worker *worker);

#endif
