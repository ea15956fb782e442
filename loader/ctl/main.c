// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl: main() and the table of commands, each of which has its own file, NAME.c. The
 * program inspects and adjusts what tproxy-load has pinned. Exit status: 0, 1 after a failure, 2
 * for a usage error.
 */
#include "commands.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "log.h"
#include "options.h"
#include "sink.h"
#include "util.h"
#include "version.h"

static const struct {
	int (*run)(int argc, char **argv);
	const char *description;
} commands[_CTL_COMMAND_MAX] = {
	[CTL_STATUS] = { ctl_status, "what is loaded, attached and registered; counters" },
	[CTL_CONNECTIONS] = { ctl_connections, "the live connections, redirected and observed" },
	[CTL_DOCTOR] = { ctl_doctor,
			 "whether this host can run tproxy, what is wrong, and how to fix it" },
	[CTL_EXPLAIN] = { ctl_explain, "what would happen to a connect(), and why" },
	[CTL_RULES] = { ctl_rules, "check, load and show rules, see tproxy-rules(5)" },
	[CTL_RUN] = { ctl_run, "run a command whose connections are redirected" },
	[CTL_CAPTURE] = { ctl_capture, "the packets of connections, with their programs" },
	[CTL_TOP] = { ctl_top, "live connections with their rates, as a screen" },
	[CTL_WATCH] = { ctl_watch, "each connection as it begins and ends, with its process" },
	[CTL_BLOCK] = { ctl_block, "block addresses and networks, or whole lists" },
	[CTL_UNBLOCK] = { ctl_unblock, "remove addresses and networks from the block list" },
	[CTL_ALLOW] = { ctl_allow, "let addresses pass, whatever the block list says" },
	[CTL_UPSTREAMS] = { ctl_upstreams, "the relay's upstreams, which are up, and why not" },
	[CTL_REGISTER] = { ctl_register, "make the listeners of another proxy the relay" },
};

/* Returns the command of this name, or CTL_NONE. */
static enum ctl_command find_command(const char *name)
{
	enum ctl_command c;

	for (c = CTL_NONE + 1; c < _CTL_COMMAND_MAX; c++) {
		if (strcmp(name, ctl_command_names[c]) == 0)
			return c;
	}
	return CTL_NONE;
}

/* Prints the commands, then the options, as opthelp_print_table() prints them. */
static void print_table(void)
{
	enum ctl_command c;

	for (c = CTL_NONE + 1; c < _CTL_COMMAND_MAX; c++)
		printf("%s\t\t\tcommand\t\t\t\t\t%s\n", ctl_command_names[c],
		       commands[c].description);
	printf("help\t\t\tcommand\t\t\t\t\tprint help\n"
	       "version\t\t\tcommand\t\t\t\t\tprint the version\n");
	ctl_options_print_table();
}

static void print_help(void)
{
	enum ctl_command c;

	printf("Usage: tproxyctl COMMAND [OPTION]...\n"
	       "       tproxyctl COMMAND --help, or help COMMAND\n"
	       "\n"
	       "Shows the transparent proxy that tproxy-load has loaded, and adjusts it.\n"
	       "\n");
	for (c = CTL_NONE + 1; c < _CTL_COMMAND_MAX; c++)
		printf("  %-12s %s\n", ctl_command_names[c], commands[c].description);
	printf("\n");
	ctl_options_print_help();
	printf("\nExit status: 0, 1 after a failure, 2 for a usage error; watch and run have more.\n");
}

/* Options precede the command: logs how to write them. */
static void refuse_option(int argc, char **argv)
{
	char line[256];
	size_t used;
	int at, k;

	for (at = 2; at < argc; at++) {
		if (find_command(argv[at]) == CTL_NONE)
			continue;
		used = (size_t)snprintf(line, sizeof(line), "%s", argv[at]);
		for (k = 1; k < argc && used < sizeof(line); k++) {
			if (k != at)
				used += (size_t)snprintf(line + used, sizeof(line) - used, " %s",
							 argv[k]);
		}
		log_err("options come after the command: tproxyctl %s", line);
		return;
	}
	log_err("unknown option '%s', and no command; try 'tproxyctl --help'", argv[1]);
}

/* Logs the argument that is wrong after help or version, of which argv has one at least. */
static void refuse_argument(bool help, char **argv)
{
	const bool command = help && find_command(argv[2]) != CTL_NONE;

	if (help && !command && *argv[2] != '-')
		log_err("unknown command '%s'; try 'tproxyctl --help'", argv[2]);
	else
		log_err("unexpected argument '%s'; try 'tproxyctl --help'", argv[command ? 3 : 2]);
}

static int dispatch(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	enum ctl_command command;
	bool help, version;

	if (!name) {
		log_err("no command is given; try 'tproxyctl --help'");
		return 2;
	}
	help = strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "help") == 0;
	version = strcmp(name, "--version") == 0 || strcmp(name, "version") == 0;
	command = find_command(name);
	if (command != CTL_NONE)
		return commands[command].run(argc - 1, argv + 1);
	command = help && argc == 3 ? find_command(argv[2]) : CTL_NONE;
	if (command != CTL_NONE)
		return commands[command].run(2, (char *[]){ argv[2], (char *)"--help", NULL });
	/* Hidden, as in optparse_read(). */
	if (argc == 2 && strcmp(name, "--print-options") == 0) {
		print_table();
		return EXIT_SUCCESS;
	}
	if ((help || version) && argc > 2) {
		refuse_argument(help, argv);
		return 2;
	}
	if (help) {
		print_help();
		return EXIT_SUCCESS;
	}
	if (version) {
		printf("tproxyctl %s, ABI version %d\n", TPROXY_VERSION, TPROXY_ABI_VERSION);
		return EXIT_SUCCESS;
	}
	if (*name == '-')
		refuse_option(argc, argv);
	else
		log_err("unknown command '%s'; try 'tproxyctl --help'", name);
	return 2;
}

int main(int argc, char **argv)
{
	int status;

	sink_init();
	log_init("tproxyctl", LOG_LEVEL_INFO);
	/* The commands report a refused probe in their own words, so libbpf stays silent. */
	libbpf_set_print(NULL);
	status = dispatch(argc, argv);
	return log_answered() < 0 ? EXIT_FAILURE : status;
}
