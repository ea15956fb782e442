/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The relay as a whole: what belongs to the main thread. main.c and relay_listen.c. */
#ifndef TPROXY_RELAY_H
#define TPROXY_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guardian.h"
#include "options.h"
#include "registration.h"
#include "worker.h"

struct event;
struct event_base;

struct relay {
	int argc;
	char **argv;
	struct options options;
	struct registration reg;
	enum registration_state reg_state;
	bool stuck;	    /* a worker is: our entry is not renewed */
	bool lost_listener; /* a worker has, and there are no new ones yet */
	struct worker_limit limit;
	struct worker *workers;
	uint32_t n_workers; /* initialised: options.workers, and as many bulk workers behind them */
	uint32_t n_done;
	bool draining;	  /* new connections are not ours any more */
	bool terminating; /* draining with a deadline */
	struct event_base *base;
	struct event *events[16];
	size_t n_events;
	struct event *drain_timer;
	int done_fd;
	int watch_fd;	 /* local_watch(), or -1 */
	int guardian_fd; /* -1: we have none */
	struct guardian_child inherited;
	struct event *guardian_gone;
	struct event *handover_look;
	uint64_t handover_until_ms; /* 0: not yet */
};

/*
 * Makes the listening sockets, or takes those of a child before us, and registers; when map_config
 * names them, the workers get them. 0 or -errno, logged.
 */
int relay_listen(struct relay *relay);

#endif
