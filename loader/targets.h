/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The cgroups of a load: the scopes, where clients run, and the relay cgroup. map_targets keeps
 * their paths: a cgroup that is removed and created again is another cgroup with another id, and
 * only the path is the same.
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
	struct cgroup *scopes; /* no scope is within another one */
	size_t n_scopes;
	struct cgroup relay; /* fd -1: no --relay-cgroup */
	char **absent;	     /* scopes that do not exist now; paths as given */
	size_t n_absent;
};

#define TARGETS_NULL                                                                               \
	{                                                                                          \
		.relay = CGROUP_NULL                                                               \
	}

/*
 * Opens the cgroups that @options name. *targets must be TARGETS_NULL, and needs targets_close()
 * after a failure too. Returns 0 or -errno, logged.
 */
int targets_open(const struct options *options, struct targets *targets);
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
 * Reads map_targets. *ret_list gets *ret_n entries, which may be 0; the caller frees it. Paths end
 * with a NUL. Returns 0 or -errno, not logged.
 */
int targets_read(int map_fd, struct tproxy_target **ret_list, size_t *ret_n);
/* Replaces the contents of map_targets. Returns 0 or -errno, not logged. */
int targets_write(int map_fd, const struct targets *targets);

enum targets_state {
	TARGETS_PRESENT,
	TARGETS_ABSENT,	  /* no cgroup has that path now */
	TARGETS_REPLACED, /* a cgroup with another id has that path */
	TARGETS_UNKNOWN,  /* it cannot be opened by this process */
};

/* Compares the cgroup that is at the path now with the recorded id. */
enum targets_state targets_state_of(const struct tproxy_target *target);

#endif
