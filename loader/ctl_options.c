// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See ctl_options.h. Every option here stands in tproxyctl.8.scd and in the completion too. */
#include "ctl_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "log.h"

enum {
	OPT_JSON = 0x100,
};

/* Those that not every command takes come first. */
static const struct option long_options[] = {
	{ "cgroup", required_argument, NULL, 'c' },
	{ "pin-dir", required_argument, NULL, 'p' },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{},
};

static void print_help(const char *command, const struct ctl_usage *usage)
{
	printf("Usage: tproxyctl %s %s\n\n%s\n", command, usage->synopsis, usage->about);
	if (usage->cgroup)
		printf("  -c, --cgroup PATH   look at this cgroup too, as if it were to be attached to\n");
	printf("  -p, --pin-dir DIR   where tproxy-load has pinned (default: %s)\n"
	       "      --json          for programs\n"
	       "  -h, --help          print this\n",
	       TPROXY_PIN_DIR);
}

#define usage_error(command, fmt, ...)                                                             \
	(log_err("%s: " fmt "; try 'tproxyctl %s --help'", (command), __VA_ARGS__, (command)),     \
	 -EINVAL)

int ctl_options_parse(int argc, char **argv, const struct ctl_usage *usage,
		      struct ctl_options *ret_options)
{
	struct ctl_options o = { .pin_dir = TPROXY_PIN_DIR };
	int c;

	opterr = 0;
	optind = 0; /* glibc: start anew, the programs's own options were parsed before */
	while ((c = getopt_long(argc, argv, usage->cgroup ? ":c:p:h" : ":p:h",
				usage->cgroup ? long_options : long_options + 1, NULL)) != -1) {
		switch (c) {
		case 'c':
			o.cgroup = optarg;
			break;
		case 'p':
			o.pin_dir = optarg;
			break;
		case OPT_JSON:
			o.json = true;
			break;
		case 'h':
			print_help(argv[0], usage);
			return 1;
		case ':':
			return usage_error(argv[0], "option '%s' wants a value", argv[optind - 1]);
		default:
			if (optopt > 0 && optopt < OPT_JSON && strncmp(argv[optind - 1], "--", 2))
				return usage_error(argv[0], "unknown option '-%c'", optopt);
			return usage_error(argv[0], "unknown option '%s'", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return usage_error(argv[0], "unexpected argument '%s'", argv[optind]);
	if (!*o.pin_dir)
		return usage_error(argv[0], "%s: the path is empty", "--pin-dir");
	if (o.cgroup && !*o.cgroup)
		return usage_error(argv[0], "%s: the path is empty", "--cgroup");
	*ret_options = o;
	return 0;
}
