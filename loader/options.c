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
#include "configfile.h"
#include "log.h"
#include "parse.h"
#include "tproxy_abi.h"
#include "util.h"

#define DEFAULT_RELAY_GROUP "tproxy"

enum {
	OPT_UNLOAD = 0x100,
	OPT_STATUS,
	OPT_CHECK,
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
	{ "config", required_argument, NULL, 'f' },
	{ "check", no_argument, NULL, OPT_CHECK },
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
	       "       tproxy-load --check [OPTION]...    say whether these options and files are good\n"
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
	       "  -f, --config FILE        read these options from the section [load] of a file;\n"
	       "                           those on the command line go before\n"
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

/* Replaces an owned string. -EINVAL, with a message, for an empty one. */
static int set_path(char **path, const char *value, char error[CONFIGFILE_ERROR_LEN])
{
	if (!*value) {
		snprintf(error, CONFIGFILE_ERROR_LEN, "the path is empty");
		return -EINVAL;
	}
	free(*path);
	*path = strdup(value);
	if (*path)
		return 0;
	snprintf(error, CONFIGFILE_ERROR_LEN, "out of memory");
	return -EINVAL;
}

static int add_cgroup(struct options *o, const char *value, char error[CONFIGFILE_ERROR_LEN])
{
	char **cgroups = reallocarray(o->cgroups, o->n_cgroups + 1, sizeof(*cgroups));

	if (!cgroups) {
		snprintf(error, CONFIGFILE_ERROR_LEN, "out of memory");
		return -EINVAL;
	}
	o->cgroups = cgroups;
	cgroups[o->n_cgroups] = NULL;
	if (set_path(&cgroups[o->n_cgroups], value, error) < 0)
		return -EINVAL;
	o->n_cgroups++;
	return 0;
}

static void clear_cgroups(struct options *o)
{
	while (o->n_cgroups > 0)
		free(o->cgroups[--o->n_cgroups]);
}

static int set_bool(bool *flag, const char *value, char error[CONFIGFILE_ERROR_LEN])
{
	if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0) {
		snprintf(error, CONFIGFILE_ERROR_LEN, "'%s' is neither yes nor no", value);
		return -EINVAL;
	}
	*flag = strcmp(value, "yes") == 0;
	return 0;
}

/* One option that a file may set too. -EINVAL: error says why, without the option's name. */
static int set_option(struct options *o, const char *name, const char *value,
		      char error[CONFIGFILE_ERROR_LEN])
{
	if (strcmp(name, "cgroup") == 0)
		return add_cgroup(o, value, error);
	if (strcmp(name, "relay-cgroup") == 0)
		return set_path(&o->relay_cgroup, value, error);
	if (strcmp(name, "pin-dir") == 0)
		return set_path(&o->pin_dir, value, error);
	if (strcmp(name, "fail-closed") == 0)
		return set_bool(&o->fail_closed, value, error);
	if (strcmp(name, "include-loopback") == 0)
		return set_bool(&o->include_loopback, value, error);
	if (strcmp(name, "relay-group") == 0) {
		if (parse_group(value, &o->relay_gid) == 0)
			return 0;
		snprintf(error, CONFIGFILE_ERROR_LEN, "there is no group '%s'", value);
		return -EINVAL;
	}
	snprintf(error, CONFIGFILE_ERROR_LEN, "there is no such key");
	return -EINVAL;
}

static int set_from_file(void *data, const char *key, const char *value,
			 char error[CONFIGFILE_ERROR_LEN])
{
	return set_option(data, key, value, error);
}

/* The long name of an option, by what getopt_long() returns for it. */
static const char *name_of(int c)
{
	const struct option *option = long_options;

	while (option->val != c)
		option++;
	return option->name;
}

/* How the command line was used, which a struct options does not tell. */
struct usage {
	const char *config;
	bool cgroups; /* replace those of the file */
	bool loading; /* an option that makes sense for a load only */
};

static int set_mode(struct options *o, enum options_mode mode)
{
	if (o->mode != OPTIONS_LOAD)
		return usage_error("one of --check, --unload and --status, once");
	o->mode = mode;
	return 0;
}

/* One option of the command line. */
static int apply(int c, const char *arg, struct options *o, struct usage *usage)
{
	char error[CONFIGFILE_ERROR_LEN];

	switch (c) {
	case 'f':
		return 0; /* was first of all */
	case 'v':
		o->verbose = true;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_UNLOAD:
		return set_mode(o, OPTIONS_UNLOAD);
	case OPT_STATUS:
		return set_mode(o, OPTIONS_STATUS);
	case OPT_CHECK:
		return set_mode(o, OPTIONS_CHECK);
	case 'c':
		if (!usage->cgroups)
			clear_cgroups(o);
		usage->cgroups = true;
		break;
	case OPT_FAIL_CLOSED:
	case OPT_INCLUDE_LOOPBACK:
		arg = "yes";
		break;
	}
	if (c != 'p')
		usage->loading = true;
	if (set_option(o, name_of(c), arg, error) < 0)
		return usage_error("--%s: %s", name_of(c), error);
	return 0;
}

/* What does not go together. */
static int check_together(const struct options *o, const struct usage *usage)
{
	bool loads = o->mode == OPTIONS_LOAD || o->mode == OPTIONS_CHECK;

	if (o->json && o->mode != OPTIONS_STATUS)
		return usage_error("--json goes with --status only");
	if (!loads && usage->loading)
		return usage_error("--unload and --status take no option of a load");
	return 0;
}

/*
 * Goes through argv, either for the file and for what ends at once (o NULL), or for all the rest.
 * 0, 1 if --help or --version was answered, or -EINVAL.
 */
static int walk(int argc, char **argv, struct options *o, struct usage *usage)
{
	int c, r;

	optind = 0; /* glibc: start anew */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:r:g:p:f:vh", long_options, NULL)) != -1) {
		switch (c) {
		case 'h':
			print_help();
			return 1;
		case OPT_VERSION:
			printf("tproxy-load %s, ABI version %d\n", TPROXY_VERSION,
			       TPROXY_ABI_VERSION);
			return 1;
		case ':':
			return usage_error("option '%s' wants a value", argv[optind - 1]);
		case '?':
			return usage_error("unknown option '%s'", argv[optind - 1]);
		}
		if (!o && c == 'f')
			usage->config = optarg;
		r = o ? apply(c, optarg, o, usage) : 0;
		if (r < 0)
			return r;
	}
	if (optind < argc)
		return usage_error("unexpected argument '%s'", argv[optind]);
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
	struct options o = { .mode = OPTIONS_LOAD, .pin_dir = strdup(TPROXY_PIN_DIR) };
	struct usage usage = {};
	int r;

	if (parse_group(DEFAULT_RELAY_GROUP, &o.relay_gid) < 0)
		o.relay_gid = 0;
	r = walk(argc, argv, NULL, &usage);
	if (r == 0 && usage.config)
		r = configfile_read(usage.config, "load", set_from_file, &o) < 0 ? -EINVAL : 0;
	if (r == 0)
		r = walk(argc, argv, &o, &usage);
	if (r == 0)
		r = check_together(&o, &usage);
	if (r == 0)
		*ret_options = o;
	else
		options_finish(&o);
	return r;
}

void options_finish(struct options *options)
{
	clear_cgroups(options);
	free(options->cgroups);
	free(options->relay_cgroup);
	free(options->pin_dir);
	*options = (struct options){};
}
