/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A change that is taken back unless it is confirmed: `rules load --confirm` and `block --apply
 * --confirm`.
 */
#ifndef TPROXY_CTL_CONFIRM_H
#define TPROXY_CTL_CONFIRM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct confirm;

/* What is confirmed. */
struct confirm_kind {
	const char *what;	   /* "the rules" */
	const char *are;	   /* "are" or "is" */
	const char *them;	   /* "them" or "it" */
	const char *previous;	   /* "the previous rules are" */
	const char *keep, *revert; /* commands */
	const char *pin;	   /* whose lock a waiting process holds, see wait_lock.h */
	bool (*is_held)(const char *pin_dir);
	/* Returns the generation in force, or 0 if there is none, or if it cannot be read. */
	uint32_t (*generation)(const char *pin_dir);
	/*
	 * Confirms the change of this generation, or takes it back, if it still waits. Generation
	 * 0: not known, so that it is ours unless another process waits. Returns 0 if it did, 1 if
	 * it is in force and already confirmed, 2 if something else is in force, or -errno, logged.
	 */
	int (*finish)(const struct confirm *confirm, bool keep);
};

struct confirm {
	const struct confirm_kind *kind;
	const char *pin_dir;
	uint64_t timeout_ms;
	uint64_t ends_ms;    /* 0: not in force yet; the guard has its own */
	uint32_t before;     /* generation in force before the change */
	uint32_t generation; /* of the change; 0: not known yet */
	bool may_lock;	     /* this process may hold the lock of the pins */
	bool finished;	     /* the change was confirmed or taken back, so no guard is needed */
	pid_t guard;	     /* 0: none */
	int guard_fd;	     /* socket to the guard */
	int wait_fd;	     /* see wait_lock_take(); the guard has its own */
	int signal_fd;
};

/*
 * In this order:
 *
 *   confirm_begin()     before the lock of the pins: blocks the signals that end a process, and
 *                       starts the guard, a second process, which takes the change back if this
 *                       process dies, is stopped or hangs
 *   confirm_own()       with the lock, before the previous state is held: from then on that belongs
 *                       to this process. @before is the generation in force. Shows other programs
 *                       that a process waits
 *   confirm_in_force()  with the lock, when the change of @generation is in force: the time begins
 *   confirm_unlocked()  when the lock was released, before anything that may block
 *   confirm_wait()      waits until the change is confirmed, or takes it back
 *   confirm_end()       ends the guard. Call it after a failure too
 *
 * confirm_begin() and confirm_own() return 0 or -errno, logged. After an error nothing may change.
 */
int confirm_begin(const struct confirm_kind *kind, const char *pin_dir, uint64_t timeout_ms,
		  struct confirm *confirm);
int confirm_own(struct confirm *confirm, uint32_t before);
void confirm_in_force(struct confirm *confirm, uint32_t generation);
void confirm_unlocked(struct confirm *confirm);
/* Returns 0 if confirmed, 1 if taken back, or -errno, logged. */
int confirm_wait(struct confirm *confirm);
void confirm_end(struct confirm *confirm);

#endif
