/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The cgroups that a load is for: scopes, where clients are, and the relays' one. map_targets keeps
 * their paths: a cgroup that is removed and made again is another one, which only its path tells.
 */
#ifndef TPROXY_LOADER_TARGETS_H
#define TPROXY_LOADER_TARGETS_H

#include <stdbool.h>
#include <stddef.h>

#include "cgroup.h"

struct hook;
struct options;
struct tproxy_target;

struct targets {
	struct cgroup *scopes; /* none is within another one */
	size_t n_scopes;
	struct cgroup relay; /* fd -1: none given */
	char **absent;	     /* scopes that are not there now: paths as they were given */
	size_t n_absent;
};

#define TARGETS_NULL                                                                               \
	{                                                                                          \
		.relay = CGROUP_NULL                                                               \
	}

/* 0 or -errno, logged; to be given to targets_close() in both cases. */
int targets_open(const struct options *options, struct targets *targets);
void targets_close(struct targets *targets);

/* Does this hook belong at the scopes, or at the relays' cgroup? */
bool targets_want_scopes(const struct targets *targets, const struct hook *hook);
bool targets_want_relay(const struct targets *targets, const struct hook *hook);

/* True if a relay in this cgroup is told the destinations of the connections that it accepts. */
bool targets_serve(const struct targets *targets, const struct cgroup *cgroup);

/* What map_targets holds. The caller frees *ret_list. -errno, not logged. */
int targets_read(int map_fd, struct tproxy_target **ret_list, size_t *ret_n);
/* Replaces it. -errno, not logged. */
int targets_write(int map_fd, const struct targets *targets);

enum targets_state {
	TARGETS_PRESENT,
	TARGETS_ABSENT,	  /* no such cgroup now */
	TARGETS_REPLACED, /* another cgroup has that path */
	TARGETS_UNKNOWN,  /* it cannot be opened from here */
};

/* What is at the path of a recorded one. */
enum targets_state targets_state_of(const struct tproxy_target *target);

#endif
