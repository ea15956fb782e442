// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxyctl: main() and the table of commands, each of which has its own file, ctl_NAME.c. The
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
#include "sink.h"
#include "util.h"
#include "version.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *description;
} commands[] = {
	{ "status", ctl_status, "what is loaded, attached and registered; counters" },
	{ "connections", ctl_connections, "the redirected connections that are alive" },
	{ "doctor", ctl_doctor, "can this host run tproxy, what is wrong, and what mends it" },
	{ "register", ctl_register, "make the listeners of another proxy the relay" },
};

static void print_help(void)
{
	size_t i;

	printf("Usage: tproxyctl COMMAND [OPTION]...\n"
	       "       tproxyctl COMMAND --help, or help COMMAND\n"
	       "\n"
	       "Looks at the transparent proxy that tproxy-load has loaded, and adjusts it.\n"
	       "\n");
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-12s %s\n", commands[i].name, commands[i].description);
	printf("\n"
	       "Commands take --pin-dir DIR (default: %s) and --json, doctor also\n"
	       "--cgroup PATH and --strict, register --pid PID, --port PORT and --remove.\n"
	       "Exit status: 0, 1 after a failure, 2 for a usage error.\n"
	       "\n"
	       "  -h, --help     print this\n"
	       "      --version  print the version and that of the pinned maps\n",
	       TPROXY_PIN_DIR);
}

/* Options precede the command: logs how to write them. */
static void refuse_option(int argc, char **argv)
{
	char line[256];
	size_t used, i;
	int at, k;

	for (at = 2; at < argc; at++) {
		for (i = 0; i < ARRAY_SIZE(commands); i++) {
			if (strcmp(argv[at], commands[i].name) != 0)
				continue;
			used = (size_t)snprintf(line, sizeof(line), "%s", argv[at]);
			for (k = 1; k < argc && used < sizeof(line); k++) {
				if (k != at)
					used += (size_t)snprintf(line + used, sizeof(line) - used,
								 " %s", argv[k]);
			}
			log_err("options come after the command: tproxyctl %s", line);
			return;
		}
	}
	log_err("unknown option '%s', and no command; try 'tproxyctl --help'", argv[1]);
}

static int dispatch(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	bool help, version;
	size_t i;

	if (!name) {
		log_err("no command is given; try 'tproxyctl --help'");
		return 2;
	}
	help = strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "help") == 0;
	version = strcmp(name, "--version") == 0 || strcmp(name, "version") == 0;
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
		if (help && argc == 3 && strcmp(argv[2], commands[i].name) == 0)
			return commands[i].run(2, (char *[]){ argv[2], (char *)"--help", NULL });
	}
	if ((help || version) && argc > 2) {
		log_err("unexpected argument '%s'; try 'tproxyctl --help'", argv[2]);
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
