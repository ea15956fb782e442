/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The relay as a whole: the state of the main thread. main.c starts and ends the relay, health.c,
 * reload.c and shutdown.c handle its events, relay_listen.c makes its listeners. Functions belong
 * to the main thread.
 */
#ifndef TPROXY_RELAY_H
#define TPROXY_RELAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor.h"
#include "admin/address.h"
#include "kernel/marks.h"
#include "kernel/registration.h"
#include "options.h"
#include "report/history.h"
#include "report/verdicts.h"
#include "upstream/dial.h"
#include "worker/worker.h"

struct admin_server;
struct event;
struct event_base;
struct events;
struct log_limit;
struct checks;
struct pending_maps;
struct resolver;
struct timeval;
struct upstreams;

/* See observe.c. Zeroed: this relay is not the reader of observed connections. */
struct observe {
	bool waits;	       /* for the end of another reader */
	struct events *events; /* owned, like the two below */
	struct event *readable;
	struct event *poll;
	uint32_t config_id; /* registration::config_id at the start */
};

/* See admin.c. Zeroed, with fd -1: no admin address. */
struct admin {
	struct admin_socket socket;
	struct admin_server *server; /* owned */
	struct event *sampling;	     /* owned */
	struct verdicts verdicts;
	struct history history;
	double started_s; /* Unix time */
	char *snapshot;	  /* the state as it was sent last, owned; or NULL */
	size_t snapshot_len;
	uint64_t snapshot_ms; /* of monotonic_coarse_ms() */
};

/* What the thread of the resolver shares with the main thread, see upstreams.c. */
struct resolver_marks {
	pthread_mutex_t lock;
	struct marks marks;
};

struct relay {
	int argc;
	char **argv;
	struct options options;
	struct registration reg;
	enum registration_state reg_state;
	bool stuck;		      /* a worker is hung: our entry is not renewed */
	bool lost_listener;	      /* a worker has lost a listener, which is not replaced yet */
	uint64_t ring_owner;	      /* see pending.h; the next child has the same */
	struct pending_maps *pending; /* a reference; NULL: connect() of clients does not wait */
	bool ring_lost;		      /* another relay has taken one of our rings */
	struct dial_limit dial_limit; /* of dials for which clients wait */
	uint32_t n_rings;	      /* that we own */
	bool pairs;		      /* the listeners are pairs */
	struct upstreams *upstreams;  /* of new sessions, a reference */
	struct resolver *resolver;    /* owned; NULL: there is no name to resolve */
	struct checks *checks;	      /* owned; NULL: no upstream is checked */
	struct marks check_marks;     /* of their sockets */
	struct resolver_marks resolver_marks;
	struct worker_shared shared;
	struct worker *workers;
	uint32_t n_workers; /* initialised ones: options.workers, then as many bulk workers */
	uint32_t n_done;    /* workers whose thread has ended */
	bool draining;	    /* the registration is removed */
	bool terminating;   /* draining with a deadline */
	struct event_base *base;
	struct event *events[16]; /* owned, see relay_own_event() */
	size_t n_events;
	struct event *drain_timer; /* one of events, like the two below */
	int done_fd;
	int watch_fd;	   /* local_watch(), or -1 */
	int supervisor_fd; /* supervisor_child::fd; -1: no supervisor */
	struct supervisor_child inherited;
	struct event *supervisor_gone;
	struct observe observe;
	struct admin admin;
	struct event *handover_poll;
	uint64_t handover_until_ms; /* of monotonic_coarse_ms(); 0: no handover under way */
};

/*
 * Takes over an event, which is freed with the relay. Returns 0, or -ENOMEM if event is NULL: the
 * caller need not check the result of event_new().
 */
int relay_own_event(struct relay *relay, struct event *event);
/* Takes over an event, as relay_own_event(), and adds it. Returns 0 or -ENOMEM. */
int relay_add_event(struct relay *relay, struct event *event, const struct timeval *timeout);

/* Sets the log level and the connection log as relay->options say. */
void relay_set_log(const struct relay *relay);
/* Sets the limit of sessions, by the number of descriptors, and the quota of cgroups. */
void relay_set_limits(struct relay *relay);

/* Returns the timeouts of the workers, as relay->options say. */
struct worker_timeouts relay_timeouts(const struct relay *relay);

/* Returns the number of sessions that run now, of all workers. */
uint32_t relay_sessions(const struct relay *relay);
/* Orders all workers to reset their sessions and to end. Does not wait for them. */
void relay_stop_workers(struct relay *relay);

/*
 * Makes the listening sockets, or adopts those of an earlier child, writes them to map_config, and
 * then gives them to the workers. Main thread. Returns 0 or -errno, logged.
 */
int relay_listen(struct relay *relay);
/*
 * Logs what relay_listen() has registered. limit is that of this message, whatever limit is in
 * force; NULL: no limit.
 */
void relay_log_registered(const struct relay *relay, struct log_limit *limit);

#endif
