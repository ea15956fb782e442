/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Callers: clients whose connect() waits until the relay has reached their destination
 * (kernel/pending.h). A worker that has a ring reads their events from it and creates a session for
 * each. Nothing is accepted: the session joins the client when its server is reached.
 *
 * Admission is that of listeners: at the session limit, or without a descriptor, reading pauses,
 * the event stays in the ring, and the client waits. Worker's thread.
 */
#ifndef TPROXY_CALLER_H
#define TPROXY_CALLER_H

#include <stdbool.h>

#include "session/admission.h"
#include "spare.h"
#include "tproxy_abi.h"

struct event;
struct listener_env;
struct pending_ring;

struct callers {
	struct listener_env *env;
	struct pending_ring *ring; /* not owned; NULL: this worker reads none */
	int query_fd;		   /* a listener of this worker, not owned */
	struct event *readable;
	struct event *resume; /* timer: while paused, and to go on after a turn */
	bool paused;
	struct spare spares[_TPROXY_FAMILY_MAX];
	struct admission_wait wait;
};

#define CALLERS_NULL                                                                               \
	{                                                                                          \
		.spares = { SPARE_NULL, SPARE_NULL }                                               \
	}

/*
 * Starts to read a ring. query_fd: a listener that is open as long as the ring is read. Without
 * memory for the events, sets listener_env::lost.
 */
void callers_start(struct callers *callers, struct listener_env *env, struct pending_ring *ring,
		   int query_fd);
/* Stops, and resets *callers to CALLERS_NULL. Events that were not read stay in the ring. */
void callers_finish(struct callers *callers);

/* Resumes reading if it is paused, after a session has ended. */
void callers_resume(struct callers *callers);
/* True if there are events that were not read. */
bool callers_wait(const struct callers *callers);

#endif
