/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs of others that ours would stop. A program that was attached above a cgroup with
 * BPF_F_ALLOW_OVERRIDE runs for that cgroup only while nothing is attached to it, or between: what
 * it enforces ends there as soon as ours is attached.
 */
#ifndef TPROXY_LOADER_FOREIGN_H
#define TPROXY_LOADER_FOREIGN_H

#include <limits.h>
#include <linux/bpf.h>
#include <stdbool.h>

#include "quote.h"

struct cgroup;
struct hook;
struct pins;
struct targets;

struct foreign {
	__u32 prog_id;
	char prog_name[BPF_OBJ_NAME_LEN]; /* "" where the kernel does not tell us */
	char cgroup[PATH_MAX];		  /* where it is attached */
	const struct hook *hook;
};

/*
 * The first program that does not run at target because one of ours is on this hook there, or would
 * not if one were. own_prog_id: ours that is there already, 0: none. Returns 1 if there is one; 0;
 * or -errno.
 */
int foreign_find(const struct cgroup *target, const struct hook *hook, __u32 own_prog_id,
		 struct foreign *ret_foreign);

/*
 * At all targets and for each hook that is wanted there. -EPERM: there is one, which has been
 * logged with the command that mends it. With force, and where ours is attached already, it is a
 * warning.
 */
int foreign_check(const struct pins *pins, const struct targets *targets, bool force);

/* A sentence about it, and the command by which both run. */
#define FOREIGN_TEXT_LEN (3 * PATH_MAX)
#define FOREIGN_MEND_LEN (2 * SHELL_QUOTE_LEN(PATH_MAX) + 256)
void foreign_describe(const struct foreign *foreign, const struct cgroup *target, bool attached,
		      char text[FOREIGN_TEXT_LEN]);
void foreign_mend(const struct foreign *foreign, char text[FOREIGN_MEND_LEN]);

#endif
