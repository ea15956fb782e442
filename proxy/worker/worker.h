/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A worker: a thread with an event base, listening sockets and sessions. Each worker has a partner,
 * a bulk worker without listeners (handoff.h). Workers share only struct worker_shared.
 *
 * The main thread sends orders through the inbox: worker_listen(), worker_configure(),
 * worker_set_upstreams(), worker_drain() and worker_stop() fill it under inbox_lock and wake the
 * worker by its eventfd. The partner hands sessions over through handoff::inbox, under a lock of
 * its own. No other lock protects a worker.
 *
 * Its parts know each other only downwards: listener.c creates sessions, tick.c has the timer of
 * timeouts and probes, bulk.c the turns of bulk, handoff.c the exchange with the partner. All use
 * the same struct session_env, through which sessions call back (on_session_end(), defer()).
 *
 * A draining worker ends when its listeners are closed, its sessions and their TLS bridges have
 * ended and its inbox is closed to its partner. It then writes done_fd.
 *
 * Unless stated otherwise, functions and fields belong to the worker's own thread.
 */
#ifndef TPROXY_WORKER_H
#define TPROXY_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bulk.h"
#include "caller.h"
#include "handoff.h"
#include "kernel/marks.h"
#include "limit.h"
#include "listener.h"
#include "log.h"
#include "session/spin.h"
#include "session/env.h"
#include "session/pipes.h"
#include "tick.h"
#include "tproxy_abi.h"
#include "upstream/tls.h"

struct event;
struct pending_maps;
struct pending_ring;
struct upstreams;

/* Shared by all workers. */
struct worker_shared {
	struct session_limit limit;
	struct session_shared sessions;
	struct spin_owner spin_owner;
	struct log_episode paused;
};

/* Options that may change while the worker runs. 0 means never, for each. */
struct worker_timeouts {
	uint64_t connect_ms, idle_ms, half_closed_ms;
	uint64_t error_memory_ms;
	uint64_t keepalive_ms;
};

struct worker_config {
	uint32_t buffer_size, pipe_size; /* bytes; no pipes if pipe_size is 0 */
	uint32_t pipes_max;		 /* see pipes.h */
	uint32_t busy_poll_us;		 /* limit of one spin; 0: never spin */
	bool pass_mark;
	struct worker_timeouts timeouts; /* at first */
};

/* Listening sockets of a worker and its access to the pinned maps. Owns all descriptors. */
struct worker_sockets {
	struct listener_fds listen_fds[_TPROXY_FAMILY_MAX][TPROXY_PORTS_MAX];
	uint32_t n_listen[_TPROXY_FAMILY_MAX];
	struct marks marks;
	struct pending_maps *pending; /* a reference; NULL: no listener is one of a pair */
	struct pending_ring *ring;    /* of pending; NULL: another worker reads for this one */
};

#define WORKER_SOCKETS_NULL                                                                        \
	{                                                                                          \
		.marks = MARKS_NULL                                                                \
	}

/* Closes all descriptors and resets *sockets. Any thread that owns *sockets. */
void worker_sockets_close(struct worker_sockets *sockets);

struct worker {
	pthread_t thread;
	bool started;
	_Atomic bool failed; /* the event loop failed, the thread has ended */
	_Atomic uint32_t heartbeats_sent, heartbeats_answered; /* see worker_is_stuck() */
	struct worker_shared *shared;
	struct session_env env;
	struct listener_env listening;
	struct listener listeners[_TPROXY_FAMILY_MAX];
	struct listener retired[_TPROXY_FAMILY_MAX]; /* replaced listeners, until closed */
	uint64_t retired_ms;   /* when they were retired, or a pending connection was seen last */
	uint64_t retire_at_ms; /* pending connections keep them no longer than until then */
	struct callers callers;
	struct pending_maps *pending; /* a reference to session_env::pending, or NULL */
	struct tick tick;
	struct bulk bulk;
	struct handoff handoff;
	struct event *accept_grace; /* timer that serves retired listeners */
	struct event *ended;	    /* runs after sessions have ended, see on_session_end() */
	struct pipes pipes;
	struct tls_home tls; /* TLS bridges of sessions */
	bool draining;
	int done_fd; /* eventfd, not owned: written when the loop has ended */

	struct event *wake;
	int wake_fd; /* eventfd */
	pthread_mutex_t inbox_lock;
	struct {
		struct worker_sockets sockets;
		struct worker_timeouts timeouts;
		struct upstreams *upstreams; /* a reference */
		bool listen, configure, set_upstreams, drain, stop;
	} inbox;
};

/*
 * Main thread. Initialises the worker without starting it; shared must outlive the worker. Returns
 * 0 or -ENOMEM. After a failure the caller must call worker_finish() too.
 */
int worker_init(struct worker *worker, const struct worker_config *config,
		struct worker_shared *shared, int done_fd);
/* Main thread. Starts the worker's thread. Returns 0 or -errno. */
int worker_start(struct worker *worker);
/* Main thread, before either worker starts. bulk takes the bulk transfers of worker (handoff.h). */
void worker_pair(struct worker *worker, struct worker *bulk);
/* Main thread. Waits until the worker's thread has ended. */
void worker_join(struct worker *worker);
/* Main thread. Frees the worker; its thread and its partner's must have been joined, if started. */
void worker_finish(struct worker *worker);

/*
 * The next five send an order from the main thread, at any time, and do not wait for its effect.
 * worker_listen() replaces the listeners and the registration, and takes over all descriptors.
 * Clients that were redirected to the old listeners are still served, as by worker_drain().
 */
void worker_listen(struct worker *worker, const struct worker_sockets *sockets);
/* Sets new timeouts, which apply to existing sessions too. */
void worker_configure(struct worker *worker, const struct worker_timeouts *timeouts);
/*
 * Replaces the set of upstreams, of which the worker takes a reference; NULL: all connections are
 * direct. Sessions that have begun keep theirs. Before the first worker_listen() it is in effect
 * for the first client.
 */
void worker_set_upstreams(struct worker *worker, struct upstreams *set);
/*
 * Accepts for 200 ms more, then empties the backlog and closes the listeners. The listeners stay
 * for a minute at most while connections are pending there. The worker ends with its last session.
 */
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

#endif
