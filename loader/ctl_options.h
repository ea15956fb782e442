/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options that the commands of tproxyctl have in common. */
#ifndef TPROXY_LOADER_CTL_OPTIONS_H
#define TPROXY_LOADER_CTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tproxy_abi.h"

struct ctl_usage {
	const char *synopsis; /* what stands behind the command's name */
	const char *about;    /* lines, each with its newline */
	bool examine;	      /* takes --cgroup and --strict */
	bool process;	      /* takes --pid, which then must be there, --port and --remove */
};

/* Strings are argv's own. */
struct ctl_options {
	const char *pin_dir;
	const char *cgroup; /* or NULL */
	bool json;
	bool strict; /* warnings fail too */
	pid_t pid;
	uint16_t ports[TPROXY_PORTS_MAX];
	size_t n_ports; /* 0: all */
	bool remove;
};

/*
 * 0: *ret_options is set. 1: --help was answered, exit 0. -EINVAL: the line that says what is wrong
 * has been logged, exit 2. argv begins with the command's name.
 */
int ctl_options_parse(int argc, char **argv, const struct ctl_usage *usage,
		      struct ctl_options *ret_options);

#endif
