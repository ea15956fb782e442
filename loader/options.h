/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The command line of tproxy-load. */
#ifndef TPROXY_LOADER_OPTIONS_H
#define TPROXY_LOADER_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum options_mode {
	OPTIONS_LOAD,
	OPTIONS_UNLOAD,
	OPTIONS_STATUS,
	OPTIONS_CHECK,
};

/* Strings are owned. */
struct options {
	enum options_mode mode;
	bool all;	/* the cgroup2 root; then no cgroups, and some without it */
	char **cgroups; /* of a load or check */
	/* Where they and relay_cgroup stand in config; NULL or 0: on the command line. */
	unsigned int *cgroup_lines;
	unsigned int relay_cgroup_line;
	char *config;		/* or NULL */
	bool config_has_others; /* sections of other programs */
	size_t n_cgroups;
	char *relay_cgroup; /* or NULL */
	char *pin_dir;
	gid_t relay_gid; /* 0: root only */
	bool fail_closed;
	bool include_loopback;
	bool force;
	bool again; /* as loaded before; then the rest of a load but cgroups is not set */
	bool json;
	bool verbose;
};

/*
 * 0: *ret_options is set; give it to options_finish(). 1: --help or --version was answered, exit 0.
 * -EINVAL: the line that says what is wrong has been logged, exit 2.
 */
int options_parse(int argc, char **argv, struct options *ret_options);

/* "--NAME", or "FILE:LINE: NAME" where a file says it. Returns text. */
#define OPTIONS_WHERE_LEN (PATH_MAX + 64)
const char *options_where(const struct options *o, const char *name, unsigned int line,
			  char text[OPTIONS_WHERE_LEN]);

void options_finish(struct options *options);

#endif
