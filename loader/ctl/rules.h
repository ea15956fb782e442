/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The verbs of `tproxyctl rules`. Each function returns the exit status. */
#ifndef TPROXY_CTL_RULES_H
#define TPROXY_CTL_RULES_H

#include <stdint.h>
#include <sys/types.h>

struct ctl_options;

int rules_check(const struct ctl_options *options);
int rules_load(const struct ctl_options *options);
int rules_unload(const struct ctl_options *options);
int rules_confirm(const struct ctl_options *options);
int rules_revert(const struct ctl_options *options);
/* show and stats. */
int rules_show(const struct ctl_options *options);

/*
 * A load that is taken back unless it is confirmed. rules_confirm_begin() comes before the lock: it
 * blocks the signals that end a process, and starts the guard, a second process, which takes the
 * rules back if this process dies. rules_confirm_own() comes before rules_store_hold(): from then
 * on the pin belongs to this load. rules_confirm_held() comes after it, and shows other programs
 * that a process waits. rules_confirm_wait() waits, without the lock, until the rules of this
 * generation are confirmed, or takes them back. rules_confirm_end() ends the guard. Call it after a
 * failure too.
 */
struct rules_confirm {
	const char *pin_dir;
	uint64_t timeout_ms;
	uint64_t ends_ms;
	uint32_t generation; /* 0: not known yet */
	pid_t guard;	     /* 0: none */
	int pipe_fd;	     /* the guard reads from it */
	int wait_fd;	     /* see rules_wait_begin(); the guard has its own */
	int signal_fd;
};

/* These two return 0 or -errno, logged. */
int rules_confirm_begin(const struct ctl_options *options, struct rules_confirm *confirm);
int rules_confirm_held(struct rules_confirm *confirm);
void rules_confirm_own(struct rules_confirm *confirm);
/* Returns 0 if confirmed, 1 if taken back, or -errno, logged. */
int rules_confirm_wait(struct rules_confirm *confirm, uint32_t generation);
void rules_confirm_end(struct rules_confirm *confirm);

#endif
