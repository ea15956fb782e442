/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An instance of the kernel half for one cgroup, with rules of its own. Nothing of it is pinned: it
 * goes with the cgroup.
 *
 * At a cgroup that no other instance covers, it may share the relays, records and shares of a
 * loaded instance. Then it decides as the loaded instance would with these rules. Otherwise it has
 * no relay and can only refuse: connections that it lets pass are decided by the instances above,
 * whose programs run after its own. It may tell one of those which upstream its rules name.
 */
#ifndef TPROXY_LOAD_INSTANCE_H
#define TPROXY_LOAD_INSTANCE_H

#include <stdbool.h>

struct cgroup;
struct rules_compiled;

struct instance_options {
	const char *shared_dir;		    /* pins of the instance to share with, or NULL */
	const char *advised_dir;	    /* pins of the instance above to advise, or NULL */
	const struct rules_compiled *rules; /* all zero: the default is redirect */
	bool fail_closed;
};

/* Descriptors of its maps, owned; -1: none. */
struct instance {
	int events_fd, observed_fd, slots_fd, stats_fd;
};

#define INSTANCE_NULL                                                                              \
	{                                                                                          \
		.events_fd = -1, .observed_fd = -1, .slots_fd = -1, .stats_fd = -1,                \
	}

/*
 * Loads an instance and attaches it. Returns 0 and the maps, or -errno, logged. Programs that were
 * attached before a failure go with the cgroup. The caller calls instance_close().
 */
int instance_attach(const struct instance_options *options, const struct cgroup *cgroup,
		    struct instance *ret_instance);
void instance_close(struct instance *instance);

/*
 * Attaches the program of a hook so that it belongs to the cgroup. @name is for the message.
 * Returns 0 or -errno, logged.
 */
int instance_attach_program(int prog_fd, const char *name, int attach_type,
			    const struct cgroup *cgroup);

#endif
