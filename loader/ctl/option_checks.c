// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See option_checks.h. */
#include "option_checks.h"

#include <string.h>

#include "block_options.h"
#include "operand.h"
#include "optparse.h"
#include "top_table.h"

static int check_register(const struct optable *of_command, const struct ctl_options *o)
{
	if (!o->pid)
		return optparse_usage_error(of_command, "--pid is missing");
	if (o->remove && o->n_ports)
		return optparse_usage_error(
			of_command, "--remove removes all ports; it does not go with --port");
	return 0;
}

static int check_explain(const struct optable *of_command, const struct ctl_options *o)
{
	if (o->pid && (o->has_uid || o->has_gid || *o->cgroup || o->has_command))
		return optparse_usage_error(
			of_command, "--pid does not go with --uid, --gid, --cgroup and --command");
	if (!o->n_destinations && !o->batch)
		return optparse_usage_error(of_command, "ADDR:PORT is missing");
	return 0;
}

static int check_rules(const struct optable *of_command, const struct ctl_options *o)
{
	if (o->verb == CTL_RULES_NONE)
		return optparse_usage_error(
			of_command,
			"one of check, load, unload, confirm, revert, show and stats is missing");
	if (operand_takes_file(o->verb) && !*o->file)
		return optparse_usage_error(of_command, "FILE is missing");
	if (o->confirm_ms && o->verb != CTL_RULES_LOAD)
		return optparse_usage_error(of_command, "--confirm goes with load only");
	if (o->no_resolve && o->verb != CTL_RULES_CHECK)
		return optparse_usage_error(of_command, "--no-resolve goes with check only");
	if (o->verbose && o->verb != CTL_RULES_CHECK)
		return optparse_usage_error(of_command, "--verbose goes with check only");
	if (o->json && (o->verb == CTL_RULES_UNLOAD || o->verb == CTL_RULES_CONFIRM ||
			o->verb == CTL_RULES_REVERT))
		return optparse_usage_error(of_command,
					    "--json goes with check, load, show and stats only");
	return 0;
}

static int check_run(const struct optable *of_command, const struct ctl_options *o)
{
	if (!o->n_words)
		return optparse_usage_error(of_command, "the command is missing");
	if (*o->write_rules && !o->observe)
		return optparse_usage_error(of_command, "--write-rules goes with --observe only");
	if (*o->write_rules && *o->rules)
		return optparse_usage_error(of_command,
					    "--write-rules and --rules are mutually exclusive");
	if (*o->via && o->observe && !*o->rules)
		return optparse_usage_error(
			of_command,
			"--via goes with --observe only if --rules redirects: otherwise all connections go direct");
	return 0;
}

static int check_capture(const struct optable *of_command, const struct ctl_options *o)
{
	if ((o->file_size || o->n_files) && (!*o->write || strcmp(o->write, "-") == 0))
		return optparse_usage_error(of_command,
					    "--file-size and --files go with --write FILE only");
	if (o->n_files && !o->file_size)
		return optparse_usage_error(of_command, "--files goes with --file-size only");
	return 0;
}

static int check_watch(const struct optable *of_command, const struct ctl_options *o)
{
	if (o->buffer & (o->buffer - 1))
		return optparse_usage_error(of_command, "--buffer: '%u' is not a power of 2",
					    o->buffer);
	return 0;
}

static int check_top(const struct optable *of_command, const struct ctl_options *o)
{
	if (!top_table_has(o->by, o->sort))
		return optparse_usage_error(of_command, "--by %s has no column '%s'",
					    top_by_names[o->by], top_column_names[o->sort]);
	if (o->by == TOP_BY_TRAFFIC && !filter_is_of_cgroups(&o->filter))
		return optparse_usage_error(of_command, "--by traffic has no filter but --cgroup");
	return 0;
}

int option_checks(const struct optable *of_command, const struct ctl_options *options)
{
	if (block_options_are_of(options->of_command))
		return block_options_check(of_command, options);
	switch (options->of_command) {
	case CTL_REGISTER:
		return check_register(of_command, options);
	case CTL_EXPLAIN:
		return check_explain(of_command, options);
	case CTL_RULES:
		return check_rules(of_command, options);
	case CTL_RUN:
		return check_run(of_command, options);
	case CTL_CAPTURE:
		return check_capture(of_command, options);
	case CTL_WATCH:
		return check_watch(of_command, options);
	case CTL_TOP:
		return check_top(of_command, options);
	default:
		return 0;
	}
}
