// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tproxy-load. See options.h. Each option is also in tproxy-load.8.scd and completion.bash, which
 * scripts/check.sh verifies.
 */
#include "options.h"

#include <errno.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "configfile.h"
#include "log.h"
#include "optparse.h"
#include "parse.h"
#include "tproxy_abi.h"
#include "util.h"
#include "version.h"

#define DEFAULT_RELAY_GROUP "tproxy"

enum {
	OPT_ALL = 0x100,
	OPT_AGAIN,
	OPT_FORCE,
	OPT_UNLOAD,
	OPT_STATUS,
	OPT_CHECK,
	OPT_JSON,
	OPT_FAIL_CLOSED,
	OPT_INCLUDE_LOOPBACK,
	OPT_VERSION,
};

static const struct optparse_option table[] = {
	{ "all", OPT_ALL, false },
	{ "cgroup", 'c', true },
	{ "relay-cgroup", 'r', true },
	{ "relay-group", 'g', true },
	{ "pin-dir", 'p', true },
	{ "config", 'f', true },
	{ "check", OPT_CHECK, false },
	{ "fail-closed", OPT_FAIL_CLOSED, false },
	{ "include-loopback", OPT_INCLUDE_LOOPBACK, false },
	{ "again", OPT_AGAIN, false },
	{ "force", OPT_FORCE, false },
	{ "unload", OPT_UNLOAD, false },
	{ "status", OPT_STATUS, false },
	{ "json", OPT_JSON, false },
	{ "verbose", 'v', false },
	{ "help", 'h', false },
	{ "version", OPT_VERSION, false },
	{},
};

static void print_help(void)
{
	printf("Usage: tproxy-load --cgroup PATH... [OPTION]...   load, pin and attach\n"
	       "       tproxy-load --all [OPTION]...              likewise, for the whole host\n"
	       "       tproxy-load --again [-c PATH]... [-p DIR]   with the options of the last load\n"
	       "       tproxy-load --check [OPTION]...    say whether these options and files are good\n"
	       "       tproxy-load --unload [-p DIR]      detach and remove all that was pinned\n"
	       "       tproxy-load --status [--json] [-p DIR]\n"
	       "\n"
	       "Hands the TCP connections of cgroups to a relay (tproxy-relay), once one is\n"
	       "registered. Loading again repairs or upgrades in place and keeps live state.\n"
	       "\n"
	       "  -c, --cgroup PATH        redirect processes in and below it; may be given many\n"
	       "                           times\n"
	       "      --all                redirect all processes: the cgroup2 root. One of the two\n"
	       "                           is needed\n"
	       "  -r, --relay-cgroup PATH  where relays live; processes there are never redirected\n"
	       "  -g, --relay-group GROUP  who may register a relay (default: %s, if it exists,\n"
	       "                           else root alone)\n"
	       "  -p, --pin-dir DIR        in a BPF file system (default: %s)\n"
	       "  -f, --config FILE        read these options from the section [load] of a file;\n"
	       "                           the command line overrides it\n"
	       "      --fail-closed        refuse connections that no relay can take\n"
	       "                           (default: let them through directly)\n"
	       "      --include-loopback   redirect connections to loopback addresses too\n"
	       "      --again              load with the options of the load before: repairs, and\n"
	       "                           attaches to cgroups that were removed and made again; each\n"
	       "                           --cgroup beside it is added\n"
	       "      --force              load also where that stops programs of others that were\n"
	       "                           attached above with BPF_F_ALLOW_OVERRIDE\n"
	       "      --unload             see above; not an error if nothing is loaded\n"
	       "      --status             what is loaded and attached; exit status 1 if nothing is\n"
	       "      --json               with --status: for programs\n"
	       "  -v, --verbose            say each step, and what libbpf and the verifier say\n"
	       "  -h, --help               print this\n"
	       "      --version            print the version and that of the pinned maps\n",
	       DEFAULT_RELAY_GROUP, TPROXY_PIN_DIR);
}

/* Parses the name or number of a group. Returns 0 or -EINVAL. */
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

/* Replaces an owned string. Returns 0, or -EINVAL with a message in @error. */
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

static int add_cgroup(struct options *o, const char *value, unsigned int line,
		      char error[CONFIGFILE_ERROR_LEN])
{
	char **cgroups = reallocarray(o->cgroups, o->n_cgroups + 1, sizeof(*cgroups));
	unsigned int *lines;

	o->cgroups = cgroups ? cgroups : o->cgroups;
	lines = reallocarray(o->cgroup_lines, o->n_cgroups + 1, sizeof(*lines));
	o->cgroup_lines = lines ? lines : o->cgroup_lines;
	if (!cgroups || !lines) {
		snprintf(error, CONFIGFILE_ERROR_LEN, "out of memory");
		return -EINVAL;
	}
	cgroups[o->n_cgroups] = NULL;
	lines[o->n_cgroups] = line;
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
	if (parse_bool(value, flag) == 0)
		return 0;
	snprintf(error, CONFIGFILE_ERROR_LEN, "'%s' is neither yes nor no", value);
	return -EINVAL;
}

/*
 * Sets one option that the file may set too. @line is its line in the file, 0 for the command line.
 * Returns 0, or -EINVAL with the reason in @error, without the option's name.
 */
static int set_option(struct options *o, const char *name, const char *value, unsigned int line,
		      char error[CONFIGFILE_ERROR_LEN])
{
	if (strcmp(name, "cgroup") == 0)
		return add_cgroup(o, value, line, error);
	if (strcmp(name, "all") == 0)
		return set_bool(&o->all, value, error);
	if (strcmp(name, "relay-cgroup") == 0) {
		o->relay_cgroup_line = line;
		return set_path(&o->relay_cgroup, value, error);
	}
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

static int set_from_file(void *data, const char *key, const char *value, unsigned int line,
			 char error[CONFIGFILE_ERROR_LEN])
{
	const struct options *o = data;

	if (set_option(data, key, value, line, error) < 0)
		return -EINVAL;
	if (!o->all || o->n_cgroups == 0)
		return 0;
	snprintf(error, CONFIGFILE_ERROR_LEN, "cgroup and all exclude each other");
	return -EINVAL;
}

static int read_config(const char *path, struct options *o)
{
	struct configfile file = {
		.path = path, .section = "load", .many = "cgroup", .set = set_from_file, .data = o
	};

	o->config = strdup(path);
	if (!o->config || configfile_read(&file) < 0)
		return -EINVAL;
	o->config_has_others = file.others;
	return 0;
}

/* How the command line was used, as far as struct options does not say. */
struct usage {
	const char *config;
	bool scope;   /* has --cgroup or --all, which replace those of the file */
	bool loading; /* has an option that only a load takes */
	bool choice;  /* has an option that --again takes from the previous load */
};

static int set_mode(struct options *o, enum options_mode mode)
{
	if (o->mode != OPTIONS_LOAD)
		return usage_error("give only one of --check, --unload and --status");
	o->mode = mode;
	return 0;
}

/* Applies one option of the command line. Returns 0 or -EINVAL, logged. */
static int apply(int c, const char *arg, struct options *o, struct usage *usage)
{
	char error[CONFIGFILE_ERROR_LEN];

	switch (c) {
	case 'f':
		return 0; /* the first walk() has read it */
	case 'v':
		o->verbose = true;
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_AGAIN:
		o->again = usage->loading = true;
		return 0;
	case OPT_FORCE:
		o->force = usage->loading = true;
		return 0;
	case OPT_UNLOAD:
		return set_mode(o, OPTIONS_UNLOAD);
	case OPT_STATUS:
		return set_mode(o, OPTIONS_STATUS);
	case OPT_CHECK:
		return set_mode(o, OPTIONS_CHECK);
	case 'c':
	case OPT_ALL:
		if (!usage->scope) {
			clear_cgroups(o);
			o->all = false;
		}
		usage->scope = true;
	}
	if (c != 'p')
		usage->loading = true;
	if (c != 'p' && c != 'c')
		usage->choice = true;
	if (set_option(o, optparse_name(table, c), arg ? arg : "yes", 0, error) < 0)
		return usage_error("--%s: %s", optparse_name(table, c), error);
	return 0;
}

/* Rejects options that exclude each other. */
static int check_together(const struct options *o, const struct usage *usage)
{
	bool loads = o->mode == OPTIONS_LOAD || o->mode == OPTIONS_CHECK;

	if (o->json && o->mode != OPTIONS_STATUS)
		return usage_error("--json goes with --status only");
	if (!loads && usage->loading)
		return usage_error("--unload and --status take no option of a load");
	if (o->again && (o->mode != OPTIONS_LOAD || usage->choice || usage->config))
		return usage_error(
			"--again takes all from the load before: only --cgroup, --pin-dir, --force and --verbose go with it");
	if (o->all && o->n_cgroups > 0)
		return usage_error("--all and --cgroup exclude each other");
	if (loads && !o->again && !o->all && o->n_cgroups == 0)
		return usage_error(
			"no scope is given: --cgroup PATH for the processes of a cgroup, or --all for those of the whole host");
	return 0;
}

/*
 * Walks argv, either to find --config and to answer --help and --version (@o is NULL), or to apply
 * all other options. Returns 0, 1 if --help or --version was answered, or -EINVAL, logged.
 */
static int walk(int argc, char **argv, struct options *o, struct usage *usage)
{
	char error[OPTPARSE_ERROR_LEN];
	struct optparse p;
	const char *value;
	int c, r = 0;

	optparse_init(&p, argc, argv, table);
	while (r == 0 && (c = optparse_next(&p, &value, error)) != OPTPARSE_END) {
		switch (c) {
		case -EINVAL:
			return usage_error("%s", error);
		case OPTPARSE_OPERAND:
			return usage_error("unexpected argument '%s'", value);
		case 'h':
			print_help();
			return 1;
		case OPT_VERSION:
			printf("tproxy-load %s, ABI version %d\n", TPROXY_VERSION,
			       TPROXY_ABI_VERSION);
			return 1;
		}
		if (!o && c == 'f' && usage->config)
			return usage_error("--config is given twice: '%s' and '%s'", usage->config,
					   value);
		if (!o && c == 'f')
			usage->config = value;
		r = o ? apply(c, value, o, usage) : 0;
	}
	return r;
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
		r = read_config(usage.config, &o);
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

const char *options_where(const struct options *o, const char *name, unsigned int line,
			  char text[OPTIONS_WHERE_LEN])
{
	if (line > 0)
		snprintf(text, OPTIONS_WHERE_LEN, "%s:%u: %s", o->config, line, name);
	else
		snprintf(text, OPTIONS_WHERE_LEN, "--%s", name);
	return text;
}

void options_finish(struct options *options)
{
	clear_cgroups(options);
	free(options->cgroups);
	free(options->cgroup_lines);
	free(options->config);
	free(options->relay_cgroup);
	free(options->pin_dir);
	*options = (struct options){};
}
