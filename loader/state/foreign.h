/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Foreign programs that attaching tproxy's would stop. A program that was attached above a cgroup
 * with BPF_F_ALLOW_OVERRIDE runs for that cgroup only while nothing is attached to it, or in
 * between. What it enforces ends there as soon as tproxy's program is attached.
 */
#ifndef TPROXY_STATE_FOREIGN_H
#define TPROXY_STATE_FOREIGN_H

#include <limits.h>
#include <linux/bpf.h>
#include <stdbool.h>

#include "quote.h"

struct cgroup;
struct hook;

struct foreign {
	__u32 prog_id;
	char prog_name[BPF_OBJ_NAME_LEN]; /* "" if the kernel does not tell us */
	char cgroup[PATH_MAX];		  /* path of the cgroup to which it is attached */
	const struct hook *hook;
};

/*
 * Finds the first program that does not run for @target because tproxy's is attached to @hook
 * there, or that would not run if it were. @own_prog_id: tproxy's program that is attached there
 * already, or 0. Returns 1 and sets *ret_foreign, 0 if there is none, or -errno, not logged.
 */
int foreign_find(const struct cgroup *target, const struct hook *hook, __u32 own_prog_id,
		 struct foreign *ret_foreign);

/*
 * foreign_describe() writes a sentence about the program; @attached: tproxy's is attached there.
 * foreign_fix() writes the shell command after which both programs run.
 */
#define FOREIGN_TEXT_LEN (3 * PATH_MAX)
#define FOREIGN_FIX_LEN	 (2 * SHELL_QUOTE_LEN(PATH_MAX) + 256)
void foreign_describe(const struct foreign *foreign, const struct cgroup *target, bool attached,
		      char text[FOREIGN_TEXT_LEN]);
void foreign_fix(const struct foreign *foreign, char text[FOREIGN_FIX_LEN]);

#endif
