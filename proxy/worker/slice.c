// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See slice.h. */
#include "slice.h"

#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The shortest slice that the kernel accepts. */
#define SLICE_NS 100000

/* Argument of sched_setattr(2). <linux/sched/types.h> conflicts with glibc's <sched.h>. */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

void slice_shorten(void)
{
	struct scheduling s = {};

	if (syscall(SYS_sched_getattr, 0, &s, sizeof(s), 0) < 0 || s.policy != SCHED_OTHER)
		return;
	s.runtime_ns = SLICE_NS;
	syscall(SYS_sched_setattr, 0, &s, 0);
}
