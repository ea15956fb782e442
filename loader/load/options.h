/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options of tproxy-load, from the command line and from section [load] of a file. */
#ifndef TPROXY_LOAD_OPTIONS_H
#define TPROXY_LOAD_OPTIONS_H

#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tproxy_abi.h"

enum options_mode {
	OPTIONS_LOAD,
	OPTIONS_UNLOAD,
	OPTIONS_STATUS,
	OPTIONS_CHECK,
	OPTIONS_FOLLOW,
};

/* cgroups and xdp are owned; load_options_finish() frees them. */
/* Limit of --xdp, so that there is room for cgroups in map_targets. */
#define LOAD_OPTIONS_XDP_MAX 64

struct load_options {
	enum options_mode mode;
	bool all;	/* --all: the cgroup2 root; then cgroups is empty */
	char **cgroups; /* --cgroup, for a load or check */
	/* Line in config of each cgroup, of relay_cgroup and of all; NULL or 0: from elsewhere. */
	unsigned int *cgroup_lines;
	unsigned int relay_cgroup_line;
	unsigned int all_line;
	char config[PATH_MAX];	/* or empty */
	bool config_has_others; /* config has sections of other programs too */
	size_t n_cgroups;
	char relay_cgroup[PATH_MAX]; /* or empty */
	char pin_dir[PATH_MAX];
	char rules[PATH_MAX];  /* or empty: the rules in force stay */
	char (*xdp)[IFNAMSIZ]; /* --xdp, each name once */
	size_t n_xdp;
	size_t n_xdp_of_file; /* how many of them are from config */
	enum tproxy_xdp_mode xdp_mode;
	__u64 xdp_netns; /* --again: cookie of the interfaces' network namespace; 0: this one */
	gid_t relay_gid; /* 0: only root may register */
	bool fail_closed;
	bool include_loopback;
	bool traffic; /* count by cgroup */
	bool force;
	bool again; /* --again: policy, group and relay cgroup come from the pins */
	bool json;
	bool verbose;
};

/*
 * Parses the command line and the file that it names. Returns 0: *ret_options is set, free it with
 * load_options_finish(). Returns 1: --help, --version or --print-options was answered, exit with 0.
 * Returns -EINVAL: the error was logged in one line, exit with 2.
 */
int load_options_parse(int argc, char **argv, struct load_options *ret_options);

/* Writes "--NAME", or "FILE:LINE: NAME" if @line is not 0. Returns @text. */
#define LOAD_OPTIONS_WHERE_LEN (PATH_MAX + 64)
const char *load_options_where(const struct load_options *o, const char *name, unsigned int line,
			       char text[LOAD_OPTIONS_WHERE_LEN]);

void load_options_finish(struct load_options *options);

#endif
