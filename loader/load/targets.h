/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The cgroups of a load: the scopes, where clients run, and the relay cgroup. They are open here.
 * map_targets keeps their paths for what reads them later, see target_list.h.
 */
#ifndef TPROXY_LOAD_TARGETS_H
#define TPROXY_LOAD_TARGETS_H

#include <stdbool.h>
#include <stddef.h>

#include "host/cgroup.h"

struct hook;
struct load_options;
struct tproxy_target;

struct targets {
	struct cgroup *scopes; /* no scope is within another one */
	unsigned int *lines;   /* of the scopes in the configuration file; 0: elsewhere */
	size_t n_scopes;
	struct cgroup relay; /* fd -1: no --relay-cgroup */
	char **absent;	     /* scopes that do not exist now; paths as given */
	size_t n_absent;
	unsigned int needs; /* see state/on_demand.h; set by load.c */
};

#define TARGETS_NULL                                                                               \
	{                                                                                          \
		.relay = CGROUP_NULL                                                               \
	}

/*
 * Opens the cgroups that @options name. *targets must be TARGETS_NULL, and needs targets_close()
 * after a failure too. Returns 0 or -errno, logged.
 */
int targets_open(const struct load_options *options, struct targets *targets);
void targets_close(struct targets *targets);

/* Return true if @hook is to be attached at the scopes, or at the relay cgroup. */
bool targets_want_scopes(const struct targets *targets, const struct hook *hook);
bool targets_want_relay(const struct targets *targets, const struct hook *hook);

/*
 * Returns true if a relay in @cgroup can ask for the destinations of the connections that it
 * accepts.
 */
bool targets_serve(const struct targets *targets, const struct cgroup *cgroup);

/*
 * Replaces the contents of map_targets; @xdp are the interfaces. Returns 0 or -errno, not logged.
 */
int targets_write(int map_fd, const struct targets *targets, const struct tproxy_target *xdp,
		  size_t n_xdp);

#endif
