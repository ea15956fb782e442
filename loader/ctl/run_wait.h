/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Waits for a command that is a child of this process, so that the caller sees no difference from
 * execve(2).
 */
#ifndef TPROXY_CTL_RUN_WAIT_H
#define TPROXY_CTL_RUN_WAIT_H

#include <signal.h>
#include <sys/types.h>

struct run_events;

/* What run_wait_prepare() has changed. */
struct run_wait_before {
	sigset_t mask;
	struct sigaction on_child;
};

/*
 * Blocks all signals before the child is forked, so that none is lost. The child restores the
 * previous mask.
 */
void run_wait_prepare(struct run_wait_before *ret_before);
void run_wait_restore(const struct run_wait_before *before);

/* Waits until the child ends, and reads events meanwhile. Returns its status, see waitpid(2). */
int run_wait(pid_t pid, struct run_events *events);

/*
 * Ends this process by the child's signal, if a signal ended the child. Otherwise returns the exit
 * status.
 */
int run_wait_end_as(int status);

#endif
