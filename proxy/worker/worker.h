/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A worker: a thread with an event base, listening sockets and sessions. Each worker has a partner,
 * a bulk worker without listeners (handoff.h). Workers share only struct worker_limit.
 *
 * The main thread sends orders through the inbox: worker_listen(), worker_configure(),
 * worker_drain() and worker_stop() fill it under inbox_lock and wake the worker by its eventfd. The
 * partner hands sessions over through the same inbox. No other lock protects a worker.
 *
 * One timer (worker::tick) runs while there are sessions. It expires timeouts, probes sessions for
 * resets, and settles new sessions. Bulk transfers queue on worker::bulk, behind small messages.
 *
 * A draining worker ends when its listeners are closed, its sessions have ended and its inbox is
 * closed to its partner. It then writes done_fd.
 *
 * Unless stated otherwise, functions and fields belong to the worker's own thread.
 */
#ifndef TPROXY_WORKER_H
#define TPROXY_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "kernel/registration.h"
#include "log.h"
#include "report/stats.h"
#include "session/busypoll.h"
#include "session/crowd.h"
#include "session/deadline.h"
#include "session/pipes.h"
#include "session/pump.h"
#include "session/quota.h"
#include "tproxy_abi.h"
#include "listener.h"

struct event;
struct event_base;
struct half;
struct options;
struct session;

/* Shared by all workers. */
struct worker_limit {
	_Atomic uint32_t sessions;
	_Atomic uint32_t max; /* limit of sessions */
	struct quota per_cgroup;
	struct busypoll_turn looking;
	struct log_episode paused, no_memory, dial_failed;
};

/*
 * Options that may change while the worker runs. A session timeout of 0 (never) is stored as a very
 * large one; error_memory_ms and keepalive_ms of 0 stay 0.
 */
struct worker_timeouts {
	uint64_t connect_ms, idle_ms, half_closed_ms;
	uint64_t error_memory_ms;
	uint64_t keepalive_ms;
};

/* Listening sockets of a worker and its access to the pinned maps. Owns all descriptors. */
struct worker_sockets {
	int listen_fds[_TPROXY_FAMILY_MAX][TPROXY_PORTS_MAX];
	uint32_t n_listen[_TPROXY_FAMILY_MAX];
	struct registration_handle handle;
};

#define WORKER_SOCKETS_NULL                                                                        \
	{                                                                                          \
		.handle = REGISTRATION_HANDLE_NULL                                                 \
	}

/* Closes all descriptors and resets *sockets. Any thread that owns *sockets. */
void worker_sockets_close(struct worker_sockets *sockets);

TAILQ_HEAD(session_list, session);

struct worker {
	pthread_t thread;
	bool started;
	bool is_bulk;			  /* gets sessions from its partner only, see handoff.h */
	struct worker *partner;		  /* NULL: none */
	_Atomic bool ended;		  /* the thread hands over no more sessions */
	_Atomic bool failed;		  /* the event loop failed, the thread has ended */
	_Atomic bool lost_listener;	  /* see worker_has_lost_listener() */
	_Atomic uint32_t asked, answered; /* heartbeats, see worker_is_stuck() */
	struct event_base *base;
	struct busypoll busypoll;
	struct worker_limit *limit;
	struct listener listeners[_TPROXY_FAMILY_MAX];
	struct listener retired[_TPROXY_FAMILY_MAX]; /* replaced listeners, until closed */
	uint64_t retired_ms;			     /* when they were retired */
	struct registration_handle handle;
	struct session_list sessions; /* newest first; sessions of the partner at the tail */
	struct session *unsettled;    /* the oldest session that is not settled, or NULL */
	struct crowd crowd;	      /* counts sessions that are not settled */
	TAILQ_HEAD(, session) deaf;   /* probe list: epoll reports no reset; the next one first */
	uint32_t n_deaf;
	uint32_t probe_left;	      /* sessions left in the current pass over the probe list */
	uint64_t probed_ms;	      /* when that pass began */
	uint32_t walk_most;	      /* limit of sessions probed, and of settled, in one tick */
	LIST_HEAD(, session) unacked; /* sessions that owe their client an acknowledgement */
	uint32_t n_unacked;
	uint64_t unacked_ns; /* when the list became non-empty */
	struct deadline_queue connecting, idle, half_closed;
	TAILQ_HEAD(, half) bulk; /* halves that wait for a turn of bulk */
	uint32_t n_bulk;
	struct event *bulk_turn; /* runs some of these halves, after all other ready events */
	struct event *tick;	 /* timer for timeouts, probes and settling */
	bool ticking;		 /* tick is scheduled */
	/* Longest interval of the tick while there are sessions: a session that comes in between
	 * may have a shorter timeout than those before it. */
	uint64_t tick_most_ms;
	struct event *closing; /* timer that serves retired listeners */
	bool pass_mark;	       /* --pass-mark */
	int keepidle_s;	       /* TCP_KEEPIDLE of server sockets; 0: no keepalive */
	struct pipes pipes;
	struct pump_tools tools;
	struct stats stats;
	bool draining;
	int done_fd; /* eventfd, not owned: written when the loop has ended */

	struct event *wake;
	int wake_fd; /* eventfd */
	pthread_mutex_t inbox_lock;
	struct {
		struct worker_sockets sockets;
		struct worker_timeouts timeouts;
		struct session_list sessions; /* handed over by the partner */
		bool listen, configure, drain, stop;
		bool closed; /* takes no more sessions */
	} inbox;
};

/*
 * Main thread. Initialises the worker without starting it; limit must outlive the worker. pipes_max
 * is the limit of pipes, see pipes.h. Returns 0 or -ENOMEM. After a failure the caller must call
 * worker_finish() too.
 */
int worker_init(struct worker *worker, const struct options *options, struct worker_limit *limit,
		uint32_t pipes_max, int done_fd);
/* Main thread. Starts the worker's thread. Returns 0 or -errno. */
int worker_start(struct worker *worker);
/* Main thread, before either worker starts. bulk takes the bulk transfers of worker (handoff.h). */
void worker_pair(struct worker *worker, struct worker *bulk);
/* Main thread. Waits until the worker's thread has ended. */
void worker_join(struct worker *worker);
/* Main thread. Frees the worker; its thread and its partner's must have been joined, if started. */
void worker_finish(struct worker *worker);

/*
 * The next four send an order from the main thread, at any time, and do not wait for its effect.
 * worker_listen() replaces the listeners and the registration, and takes over all descriptors.
 * Clients that were redirected to the old listeners are still served, as by worker_drain().
 */
void worker_listen(struct worker *worker, const struct worker_sockets *sockets);
/* Sets new timeouts, which apply to existing sessions too. */
void worker_configure(struct worker *worker, const struct options *options);
/* Accepts for 200 ms more, then empties the backlog and closes the listeners. The worker ends with
 * its last session. */
void worker_drain(struct worker *worker);
/* Resets all sessions and ends the worker. */
void worker_stop(struct worker *worker);

/*
 * Main thread. Returns true once after a listening socket of this worker became unusable: it was
 * destroyed (SOCK_DESTROY), or there was no memory for its events. Resets the flag.
 */
bool worker_has_lost_listener(struct worker *worker);
/*
 * Main thread, every second: sends a heartbeat. Returns true if the worker has missed three
 * heartbeats.
 */
bool worker_is_stuck(struct worker *worker);

/* Counts one more session, before accept(). Returns false, and counts none, at the limit. */
bool worker_reserve_session(struct worker *worker);
/* Gives the count back if no session was created. */
void worker_release_session(struct worker *worker);
/* Called when a session has ended: gives the count back and resumes paused listeners. */
void worker_on_session_end(struct worker *worker);
/*
 * worker_owe_ack(): the worker acknowledges what the session's client has sent
 * (session_acknowledge()) before the worker sleeps, or after 1 ms if it does not sleep.
 * worker_forget_ack(): the session owes no acknowledgement any more, as after an answer.
 */
void worker_owe_ack(struct worker *worker, struct session *s);
void worker_forget_ack(struct worker *worker, struct session *s);
/* Makes the worker read its inbox. Any thread. */
void worker_wake(struct worker *worker);

#endif
