/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The instances of the kernel half that decide for a caller: the pinned one, and those whose
 * programs run for the same cgroup, such as that of `tproxyctl run --rules`.
 */
#ifndef TPROXY_CTL_INSTANCES_H
#define TPROXY_CTL_INSTANCES_H

#include "gather.h"

struct caller;

struct instances {
	struct gather pinned;
	struct gather *others; /* in the order in which the kernel runs them */
	unsigned int n_others;
};

/*
 * Finds the instances. One that cannot be read, such as that of another version, is left out with a
 * warning. Returns 0 or -errno, logged. The caller calls instances_finish().
 */
int instances_init(struct instances *all, const char *pin_dir, const struct caller *caller);
void instances_finish(struct instances *all);

#endif
