// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The options of tproxy-load: the table, the values that need a parser of their own, and the
 * options that exclude each other. common/optparse.c does the rest. Every option is in
 * tproxy-load.8.scd too.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "optable.h"
#include "optparse.h"
#include "parse.h"
#include "tproxy_abi.h"
#include "util.h"
#include "version.h"

#define DEFAULT_RELAY_GROUP "tproxy"

/* The modes that an option may be given in, as optable_row.commands. --again is one of its own. */
#define IN(mode) (1U << OPTIONS_##mode)
#define IN_AGAIN (1U << 8)
#define IN_LOADS (IN(LOAD) | IN(CHECK))

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

static int set_relay_group(const struct optable_row *row, void *options, const char *value,
			   unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct load_options *o = options;

	if (parse_group(value, &o->relay_gid) < 0)
		return optable_refuse(error, "there is no group '%s'", value);
	return 0;
}

static int set_relay_cgroup(const struct optable_row *row, void *options, const char *value,
			    unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct load_options *o = options;

	o->relay_cgroup_line = line;
	return optable_path(value, o->relay_cgroup, error);
}

/* The first --cgroup or --all on the command line replaces the scope of the file. */
static void drop_scope_of_file(struct load_options *o)
{
	while (o->n_cgroups > 0 && o->cgroup_lines[o->n_cgroups - 1] > 0)
		free(o->cgroups[--o->n_cgroups]);
	if (o->all_line > 0)
		o->all = false;
	o->all_line = 0;
}

/* Checks the scope after one of its keys was set. */
static int check_scope_of_file(const struct load_options *o, char error[OPTABLE_ERROR_LEN])
{
	if (o->all && o->n_cgroups > 0)
		return optable_refuse(error, "cgroup and all are mutually exclusive");
	return 0;
}

static int add_cgroup(const struct optable_row *row, void *options, const char *value,
		      unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct load_options *o = options;
	unsigned int *lines;
	char **cgroups;

	if (!*value)
		return optable_refuse(error, "the path is empty");
	if (!line)
		drop_scope_of_file(o);
	cgroups = reallocarray(o->cgroups, o->n_cgroups + 1, sizeof(*cgroups));
	o->cgroups = cgroups ? cgroups : o->cgroups;
	lines = reallocarray(o->cgroup_lines, o->n_cgroups + 1, sizeof(*lines));
	o->cgroup_lines = lines ? lines : o->cgroup_lines;
	if (!cgroups || !lines || !(cgroups[o->n_cgroups] = strdup(value)))
		return optable_refuse(error, "out of memory");
	lines[o->n_cgroups++] = line;
	return line ? check_scope_of_file(o, error) : 0;
}

static int set_all(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct load_options *o = options;

	if (!line)
		drop_scope_of_file(o);
	o->all_line = line;
	if (parse_bool(value, &o->all) < 0)
		return optable_refuse(error, "'%s' is neither yes nor no", value);
	return line ? check_scope_of_file(o, error) : 0;
}

/* The rules of the kernel for names: dev_valid_name(). */
static bool is_interface_name(const char *s)
{
	const char *p;

	if (!*s || strlen(s) >= IFNAMSIZ || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (p = s; *p; p++) {
		if (*p == '/' || *p == ':' || isspace((unsigned char)*p))
			return false;
	}
	return true;
}

/* The first --xdp on the command line replaces those of the file. */
static int add_xdp(const struct optable_row *row, void *options, const char *value,
		   unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct load_options *o = options;
	char(*names)[IFNAMSIZ];
	size_t i;

	if (!is_interface_name(value))
		return optable_refuse(error, "'%s' is not the name of an interface", value);
	if (!line && o->n_xdp_of_file > 0)
		o->n_xdp = o->n_xdp_of_file = 0;
	for (i = 0; i < o->n_xdp; i++) {
		if (strcmp(o->xdp[i], value) == 0)
			return 0;
	}
	if (o->n_xdp == LOAD_OPTIONS_XDP_MAX)
		return optable_refuse(error, "more than %d interfaces", LOAD_OPTIONS_XDP_MAX);
	names = reallocarray(o->xdp, o->n_xdp + 1, sizeof(*names));
	if (!names)
		return optable_refuse(error, "out of memory");
	o->xdp = names;
	strcpy(o->xdp[o->n_xdp++], value);
	o->n_xdp_of_file += line > 0;
	return 0;
}

static const char *const xdp_modes[] = {
	[TPROXY_XDP_AUTO] = "auto",
	[TPROXY_XDP_NATIVE] = "native",
	[TPROXY_XDP_GENERIC] = "generic",
	NULL,
};

static int set_mode(const struct optable_row *row, void *options, const char *value,
		    unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	static const char *const names[] = {
		[OPTIONS_LOAD] = "",	   [OPTIONS_UNLOAD] = "unload", [OPTIONS_STATUS] = "status",
		[OPTIONS_CHECK] = "check", [OPTIONS_FOLLOW] = "follow",
	};
	struct load_options *o = options;
	size_t i;

	if (o->mode != OPTIONS_LOAD)
		return optable_refuse(
			error, "--check, --unload, --status and --follow are mutually exclusive");
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(row->name, names[i]) == 0)
			o->mode = (enum options_mode)i;
	}
	return 0;
}

static const struct optable_row rows[] = {
	{
		.name = "cgroup",
		.short_name = 'c',
		.arg = "PATH",
		OPTABLE_CUSTOM(add_cgroup),
		.flags = OPTABLE_KEY | OPTABLE_REPEATED,
		.commands = IN_LOADS | IN_AGAIN,
		.help = "redirect processes in and below this cgroup; may be given many times",
	},
	{
		.name = "all",
		OPTABLE_CUSTOM(set_all),
		.flags = OPTABLE_KEY,
		.commands = IN_LOADS,
		.help = "redirect all processes; this is the cgroup2 root; either --cgroup or --all is required",
	},
	{
		.name = "relay-cgroup",
		.short_name = 'r',
		.arg = "PATH",
		OPTABLE_CUSTOM(set_relay_cgroup),
		.flags = OPTABLE_KEY,
		.commands = IN_LOADS,
		.help = "cgroup of relays; processes in and below it are never redirected",
	},
	{
		.name = "relay-group",
		.short_name = 'g',
		.arg = "GROUP",
		OPTABLE_CUSTOM(set_relay_group),
		.default_text = DEFAULT_RELAY_GROUP " if it exists, else root alone",
		.flags = OPTABLE_KEY,
		.commands = IN_LOADS,
		.help = "group that may register a relay",
	},
	{
		.name = "pin-dir",
		.short_name = 'p',
		.arg = "DIR",
		OPTABLE_PATH(struct load_options, pin_dir),
		.by_default = TPROXY_PIN_DIR,
		.flags = OPTABLE_KEY,
		.help = "where to pin, in a BPF file system",
	},
	{
		.name = "config",
		.short_name = 'f',
		.arg = "FILE",
		.type = OPTABLE_TYPE_CONFIG,
		OPTABLE_MEMBER(struct load_options, config, char[PATH_MAX]),
		.commands = IN_LOADS | IN(UNLOAD) | IN(STATUS) | IN(FOLLOW),
		.help = "read these options from section [load] of a file; the command line takes precedence",
	},
	{
		.name = "fail-closed",
		OPTABLE_FLAG(struct load_options, fail_closed),
		.flags = OPTABLE_KEY,
		.commands = IN_LOADS,
		.help = "refuse connections that no relay can take; by default they are connected directly",
	},
	{
		.name = "include-loopback",
		OPTABLE_FLAG(struct load_options, include_loopback),
		.flags = OPTABLE_KEY,
		.commands = IN_LOADS,
		.help = "redirect connections to loopback addresses too",
	},
	{
		.name = "traffic",
		OPTABLE_FLAG(struct load_options, traffic),
		.flags = OPTABLE_KEY,
		.commands = IN_LOADS,
		.help = "count packets and bytes by cgroup, for the metrics of the relay and 'tproxyctl top --by traffic'",
	},
	{
		.name = "rules",
		.arg = "FILE",
		OPTABLE_PATH(struct load_options, rules),
		.flags = OPTABLE_KEY | OPTABLE_ONCE,
		.commands = IN_LOADS,
		.help = "load the rules of this file, see tproxy-rules(5); by default those in force stay",
	},
	{
		.name = "xdp",
		.arg = "IFACE",
		OPTABLE_CUSTOM(add_xdp),
		.flags = OPTABLE_KEY | OPTABLE_REPEATED,
		.commands = IN_LOADS,
		.help = "drop packets from blocked addresses as this interface receives them; may be given many times",
	},
	{
		.name = "xdp-mode",
		.arg = "MODE",
		OPTABLE_WORD(struct load_options, xdp_mode, enum tproxy_xdp_mode, xdp_modes),
		.by_default = "auto",
		.flags = OPTABLE_KEY,
		.commands = IN_LOADS,
		.help = "where --xdp runs: native in the driver, generic after it, auto native if the driver can",
	},
	{
		.name = "again",
		OPTABLE_FLAG(struct load_options, again),
		.commands = IN(LOAD) | IN_AGAIN,
		.help = "load with the options of the last load; repairs, and attaches to cgroups that were removed and created again; each --cgroup is added",
	},
	{
		.name = "force",
		OPTABLE_FLAG(struct load_options, force),
		.commands = IN_LOADS | IN_AGAIN,
		.help = "load also where that stops programs of others; those attached above with BPF_F_ALLOW_OVERRIDE",
	},
	{
		.name = "check",
		OPTABLE_CUSTOM(set_mode),
		.commands = IN(CHECK),
		.help = "check the options and the files; change nothing",
	},
	{
		.name = "unload",
		OPTABLE_CUSTOM(set_mode),
		.commands = IN(UNLOAD),
		.help = "detach and remove all that was pinned; no error if nothing is loaded",
	},
	{
		.name = "status",
		OPTABLE_CUSTOM(set_mode),
		.commands = IN(STATUS),
		.help = "print what is loaded and attached; exit status 1 if nothing is loaded",
	},
	{
		.name = "follow",
		OPTABLE_CUSTOM(set_mode),
		.commands = IN(FOLLOW),
		.help = "run until a signal: attach to the interfaces of --xdp as they appear, remove entries of the block list that have ended, and take back what was not confirmed if the command that waited was killed",
	},
	{
		.name = "json",
		OPTABLE_FLAG(struct load_options, json),
		.commands = IN(STATUS),
		.help = "with --status: print JSON",
	},
	{
		.name = "verbose",
		.short_name = 'v',
		OPTABLE_FLAG(struct load_options, verbose),
		.help = "log each step; and what libbpf and the verifier print",
	},
	OPTABLE_ROW_HELP,
	OPTABLE_ROW_VERSION,
};

static const struct optable table = {
	.program = "tproxy-load",
	.version = TPROXY_VERSION,
	.section = "load",
	.command = ~0U, /* any mode: check_together() refuses combinations */
	.usage =
		"tproxy-load --cgroup PATH... [OPTION]...  load, pin and attach\n"
		"       tproxy-load --all [OPTION]...             the same, for the whole host\n"
		"       tproxy-load --again [-c PATH]... [-p DIR] with the options of the last load\n"
		"       tproxy-load --check [OPTION]...           check the options and the files\n"
		"       tproxy-load --unload [-p DIR]             detach and remove what was pinned\n"
		"       tproxy-load --status [--json] [-p DIR]    print what is loaded\n"
		"       tproxy-load --follow [-p DIR]             stay, and attach to interfaces as they appear\n",
	.about =
		"Redirects the TCP connections of cgroups to a relay (tproxy-relay), once one has\n"
		"registered. Loading again repairs or upgrades in place and keeps live state.\n",
	.rows = rows,
	.n_rows = ARRAY_SIZE(rows),
};

/* Refuses options that exclude each other. */
static int check_together(const struct load_options *o, const struct optparse_given *given)
{
	const bool loads = o->mode == OPTIONS_LOAD || o->mode == OPTIONS_CHECK;
	const unsigned int mode = o->again && o->mode == OPTIONS_LOAD ? IN_AGAIN : 1U << o->mode;
	bool wrong = false;
	size_t i;

	if (o->json && o->mode != OPTIONS_STATUS)
		return optparse_usage_error(&table, "--json goes with --status only");
	for (i = 0; i < table.n_rows; i++)
		wrong |= (given->on_command_line & (UINT64_C(1) << i)) && rows[i].commands &&
			 !(rows[i].commands & mode);
	if (wrong && !loads)
		return optparse_usage_error(
			&table,
			"only --config, --pin-dir and --verbose may be combined with --unload, --status and --follow, and --json with --status");
	if (wrong)
		return optparse_usage_error(
			&table,
			"--again takes all from the last load: only --cgroup, --pin-dir, --force and --verbose go with it");
	if (o->all && o->n_cgroups > 0)
		return optparse_usage_error(&table, "--all and --cgroup are mutually exclusive");
	if (loads && !o->again && !o->all && o->n_cgroups == 0)
		return optparse_usage_error(
			&table,
			"no scope is given: --cgroup PATH for the processes of a cgroup, or --all for those of the whole host");
	return 0;
}

int load_options_parse(int argc, char **argv, struct load_options *ret_options)
{
	struct load_options o = { .mode = OPTIONS_LOAD };
	struct optparse_given given;
	int r;

	if (parse_group(DEFAULT_RELAY_GROUP, &o.relay_gid) < 0)
		o.relay_gid = 0;
	r = optparse_read(&table, argc, argv, &o, &given);
	if (r == 0)
		r = check_together(&o, &given);
	if (r == 0) {
		o.config_has_others = given.file_has_others;
		*ret_options = o;
	} else {
		load_options_finish(&o);
	}
	return r;
}

const char *load_options_where(const struct load_options *o, const char *name, unsigned int line,
			       char text[LOAD_OPTIONS_WHERE_LEN])
{
	if (line > 0)
		snprintf(text, LOAD_OPTIONS_WHERE_LEN, "%s:%u: %s", o->config, line, name);
	else
		snprintf(text, LOAD_OPTIONS_WHERE_LEN, "--%s", name);
	return text;
}

void load_options_finish(struct load_options *options)
{
	while (options->n_cgroups > 0)
		free(options->cgroups[--options->n_cgroups]);
	free(options->cgroups);
	free(options->cgroup_lines);
	free(options->xdp);
	*options = (struct load_options){};
}
