/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options that the commands of tproxyctl share. */
#ifndef TPROXY_CTL_OPTIONS_H
#define TPROXY_CTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tproxy_abi.h"

struct ctl_usage {
	const char *synopsis; /* follows the command's name */
	const char *about;    /* lines, each ends with a newline */
	bool examine;	      /* takes --cgroup and --strict */
	bool process;	      /* takes --pid, which is required, --port and --remove */
};

/* Strings point into argv. */
struct ctl_options {
	const char *pin_dir;
	const char *cgroup; /* --cgroup, or NULL */
	bool json;
	bool strict; /* exit status 1 for warnings too */
	pid_t pid;
	uint16_t ports[TPROXY_PORTS_MAX];
	size_t n_ports; /* 0: all ports */
	bool remove;
};

/*
 * Parses the command line of a command; argv[0] is its name. Returns 0: *ret_options is set.
 * Returns 1: --help was answered, exit with 0. Returns -EINVAL: the error was logged in one line,
 * exit with 2.
 */
int ctl_options_parse(int argc, char **argv, const struct ctl_usage *usage,
		      struct ctl_options *ret_options);

#endif
