// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See options.h. Every option here stands in tproxy-load.8.scd and in the completion too. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "log.h"
#include "parse.h"
#include "tproxy_abi.h"
#include "util.h"

#define DEFAULT_RELAY_GROUP "tproxy"

enum {
	OPT_UNLOAD = 0x100,
	OPT_STATUS,
	OPT_JSON,
	OPT_FAIL_CLOSED,
	OPT_INCLUDE_LOOPBACK,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "cgroup", required_argument, NULL, 'c' },
	{ "relay-cgroup", required_argument, NULL, 'r' },
	{ "relay-group", required_argument, NULL, 'g' },
	{ "pin-dir", required_argument, NULL, 'p' },
	{ "fail-closed", no_argument, NULL, OPT_FAIL_CLOSED },
	{ "include-loopback", no_argument, NULL, OPT_INCLUDE_LOOPBACK },
	{ "unload", no_argument, NULL, OPT_UNLOAD },
	{ "status", no_argument, NULL, OPT_STATUS },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "verbose", no_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{},
};

static void print_help(void)
{
	printf("Usage: tproxy-load [OPTION]...            load, pin and attach\n"
	       "       tproxy-load --unload [-p DIR]      detach and remove all that was pinned\n"
	       "       tproxy-load --status [--json] [-p DIR]\n"
	       "\n"
	       "Hands the TCP connections of cgroups to a relay (tproxy-relay), once one is\n"
	       "registered. Loading again repairs or upgrades in place and keeps live state.\n"
	       "\n"
	       "  -c, --cgroup PATH        redirect processes in and below it; may be given many\n"
	       "                           times (default: the cgroup2 root, that is, all)\n"
	       "  -r, --relay-cgroup PATH  where relays live; processes there are never redirected\n"
	       "  -g, --relay-group GROUP  who may register a relay (default: %s, if it exists,\n"
	       "                           else root alone)\n"
	       "  -p, --pin-dir DIR        in a BPF file system (default: %s)\n"
	       "      --fail-closed        refuse connections that no relay can take\n"
	       "                           (default: let them through directly)\n"
	       "      --include-loopback   redirect connections to loopback addresses too\n"
	       "      --unload             see above; not an error if nothing is loaded\n"
	       "      --status             what is loaded and attached; exit status 1 if nothing is\n"
	       "      --json               with --status: for programs\n"
	       "  -v, --verbose            say each step, and what libbpf and the verifier say\n"
	       "  -h, --help               print this\n"
	       "      --version            print the version and that of the pinned maps\n",
	       DEFAULT_RELAY_GROUP, TPROXY_PIN_DIR);
}

/* A name or a number. Returns 0 or -EINVAL. */
static int parse_group(const char *s, gid_t *ret_gid)
{
	const struct group *group = getgrnam(s);
	uint32_t gid;

	if (group) {
		*ret_gid = group->gr_gid;
		return 0;
	}
	if (parse_u32(s, 0, UINT32_MAX - 1, &gid) < 0)
		return -EINVAL;
	*ret_gid = gid;
	return 0;
}

#define usage_error(fmt, ...)                                                                      \
	(log_err(fmt "; try 'tproxy-load --help'" __VA_OPT__(, ) __VA_ARGS__), -EINVAL)

/* What does not go together. */
static int options_check(const struct options *o, const char *group)
{
	size_t i;

	if (o->json && o->mode != OPTIONS_STATUS)
		return usage_error("--json goes with --status only");
	if (o->mode != OPTIONS_LOAD &&
	    (o->n_cgroups || o->relay_cgroup || group || o->fail_closed || o->include_loopback))
		return usage_error("--%s takes no option but --pin-dir%s",
				   o->mode == OPTIONS_UNLOAD ? "unload" : "status",
				   o->mode == OPTIONS_UNLOAD ? "" : " and --json");
	for (i = 0; i < o->n_cgroups; i++) {
		if (!*o->cgroups[i])
			return usage_error("--cgroup: the path is empty");
	}
	if (o->relay_cgroup && !*o->relay_cgroup)
		return usage_error("--relay-cgroup: the path is empty");
	if (!*o->pin_dir)
		return usage_error("--pin-dir: the path is empty");
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	struct options o = { .mode = OPTIONS_LOAD, .pin_dir = TPROXY_PIN_DIR };
	const char *group = NULL;
	int c, r;

	o.cgroups = calloc((size_t)argc, sizeof(*o.cgroups));
	if (!o.cgroups) {
		log_err("out of memory");
		return -EINVAL;
	}
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:r:g:p:vh", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			o.cgroups[o.n_cgroups++] = optarg;
			break;
		case 'r':
			o.relay_cgroup = optarg;
			break;
		case 'g':
			group = optarg;
			break;
		case 'p':
			o.pin_dir = optarg;
			break;
		case 'v':
			o.verbose = true;
			break;
		case OPT_FAIL_CLOSED:
			o.fail_closed = true;
			break;
		case OPT_INCLUDE_LOOPBACK:
			o.include_loopback = true;
			break;
		case OPT_UNLOAD:
		case OPT_STATUS:
			if (o.mode != OPTIONS_LOAD) {
				r = usage_error("one of --unload and --status, once");
				goto err;
			}
			o.mode = c == OPT_UNLOAD ? OPTIONS_UNLOAD : OPTIONS_STATUS;
			break;
		case OPT_JSON:
			o.json = true;
			break;
		case 'h':
			print_help();
			options_finish(&o);
			return 1;
		case OPT_VERSION:
			printf("tproxy-load %s, ABI version %d\n", TPROXY_VERSION,
			       TPROXY_ABI_VERSION);
			options_finish(&o);
			return 1;
		case ':':
			r = usage_error("option '%s' wants a value", argv[optind - 1]);
			goto err;
		default:
			r = usage_error("unknown option '%s'", argv[optind - 1]);
			goto err;
		}
	}
	if (optind < argc) {
		r = usage_error("unexpected argument '%s'", argv[optind]);
		goto err;
	}
	r = options_check(&o, group);
	if (r < 0)
		goto err;
	if (group) {
		r = parse_group(group, &o.relay_gid);
		if (r < 0) {
			r = usage_error("--relay-group: there is no group '%s'", group);
			goto err;
		}
	} else if (parse_group(DEFAULT_RELAY_GROUP, &o.relay_gid) < 0) {
		o.relay_gid = 0;
	}
	*ret_options = o;
	return 0;
err:
	options_finish(&o);
	return r;
}

void options_finish(struct options *options)
{
	free(options->cgroups);
	options->cgroups = NULL;
	options->n_cgroups = 0;
}
