/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs at the cgroup of a command: the pinned ones, or an instance with rules for this
 * command alone.
 */
#ifndef TPROXY_CTL_RUN_ATTACH_H
#define TPROXY_CTL_RUN_ATTACH_H

#include <stdbool.h>

struct cgroup;
struct ctl_options;
struct instance;
struct rules_compiled;

/*
 * Attaches the pinned programs to a cgroup. They are detached when the cgroup is removed. Returns 0
 * or -errno, logged.
 */
int run_attach_pinned(const char *pin_dir, const struct cgroup *cgroup);

/* Returns true if the options ask for rules of the command's own. */
bool run_attach_wants_rules(const struct ctl_options *options);

/*
 * Reads the rules that the options ask for, for a command below the cgroup @parent. Returns 0 or
 * -errno, printed. The caller calls rules_compiled_finish(), after a failure too.
 */
int run_attach_read_rules(const struct ctl_options *options, const struct cgroup *parent,
			  struct rules_compiled *ret_compiled);

/*
 * Attaches an instance with these rules to a cgroup. @covered: another instance sees the cgroup
 * already. Returns 0 or -errno, logged.
 */
int run_attach_rules(const struct ctl_options *options, const struct rules_compiled *compiled,
		     const struct cgroup *cgroup, bool covered, struct instance *ret_instance);

#endif
