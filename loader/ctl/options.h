/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The options that the commands of tproxyctl share: their table, and the parser. */
#ifndef TPROXY_CTL_OPTIONS_H
#define TPROXY_CTL_OPTIONS_H

#include "settings.h"

/* Names by enum ctl_command; "-" for CTL_NONE. NULL ends the list. */
extern const char *const ctl_command_names[_CTL_COMMAND_MAX + 1];

struct ctl_usage {
	enum ctl_command command;
	const char *synopsis; /* follows the command's name */
	const char *about;    /* lines, each ends with a newline */
};

/* Prints the options of all commands, for people or as a table for scripts. */
void ctl_options_print_help(void);
void ctl_options_print_table(void);

/*
 * Parses the command line of a command; argv[0] is its name. Returns 0: *ret_options is set.
 * Returns 1: --help was answered, exit with 0. Returns -EINVAL: the error was logged in one line,
 * exit with 2.
 */
int ctl_options_parse(int argc, char **argv, const struct ctl_usage *usage,
		      struct ctl_options *ret_options);

#endif
