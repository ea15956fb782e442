/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The relay as a whole: state of the main thread, used by main.c and relay_listen.c. */
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
	bool stuck;	    /* a worker is hung: our entry is not renewed */
	bool lost_listener; /* a worker has lost a listener, which is not replaced yet */
	struct worker_limit limit;
	struct worker *workers;
	uint32_t n_workers; /* initialised ones: options.workers, then as many bulk workers */
	uint32_t n_done;    /* workers whose thread has ended */
	bool draining;	    /* the registration is removed */
	bool terminating;   /* draining with a deadline */
	struct event_base *base;
	struct event *events[16];
	size_t n_events;
	struct event *drain_timer;
	int done_fd;
	int watch_fd;	 /* local_watch(), or -1 */
	int guardian_fd; /* guardian_child::fd; -1: no guardian */
	struct guardian_child inherited;
	struct event *guardian_gone;
	struct event *handover_look;
	uint64_t handover_until_ms; /* of deadline_now_ms(); 0: no handover under way */
};

/*
 * Makes the listening sockets, or adopts those of an earlier child, writes them to map_config, and
 * then gives them to the workers. Main thread. Returns 0 or -errno, logged.
 */
int relay_listen(struct relay *relay);

#endif
