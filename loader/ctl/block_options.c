// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl block, unblock and allow: the values of their options, and their operands. */
#include "block_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "optparse.h"
#include "settings.h"
#include "util.h"

#define BIT(action) (1U << (action))

/* The names of options, by what `block` does. */
static const char *const block_actions[_CTL_BLOCK_MAX] = {
	[CTL_BLOCK_LIST] = "list",   [CTL_BLOCK_STATS] = "stats", [CTL_BLOCK_APPLY] = "apply",
	[CTL_BLOCK_CLEAR] = "clear", [CTL_BLOCK_KEEP] = "keep",	  [CTL_BLOCK_REVERT] = "revert",
};

bool block_options_are_of(enum ctl_command command)
{
	return command == CTL_BLOCK || command == CTL_UNBLOCK || command == CTL_ALLOW;
}

/* A CIDR, or a file if --apply is given. They are parsed later: the option may follow. */
int block_options_add_operand(void *options, const char *value, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;
	const char **grown;

	if (!*value)
		return optable_refuse(error, "a CIDR or FILE is empty");
	grown = reallocarray(o->operands, o->n_operands + 1, sizeof(*grown));
	if (!grown)
		return optable_refuse(error, "out of memory");
	o->operands = grown;
	o->operands[o->n_operands++] = value;
	return 0;
}

int block_options_set_action(const struct optable_row *row, void *options, const char *value,
			     unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	enum ctl_block_action action = CTL_BLOCK_ADD + 1;
	struct ctl_options *o = options;

	while (strcmp(row->name, block_actions[action]) != 0)
		action++;
	if (o->block_action != CTL_BLOCK_ADD && o->block_action != action)
		return optable_refuse(error, "it does not go with --%s",
				      block_actions[o->block_action]);
	o->block_action = action;
	return row->arg ? block_options_add_operand(options, value, error) : 0;
}

int block_options_set_comment(const struct optable_row *row, void *options, const char *value,
			      unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;
	const char *c;

	if (strlen(value) >= sizeof(o->comment))
		return optable_refuse(error, "'%s' is longer than the %zu bytes of a comment",
				      value, sizeof(o->comment) - 1);
	for (c = value; *c; c++) {
		if (iscntrl((unsigned char)*c))
			return optable_refuse(error, "a comment has no control characters");
	}
	strcpy(o->comment, value);
	return 0;
}

/* As the errnos of rules, see tproxy-rules(5). */
int block_options_set_error(const struct optable_row *row, void *options, const char *value,
			    unsigned int line, char error[OPTABLE_ERROR_LEN])
{
	static const uint16_t errnos[] = { ECONNREFUSED, EACCES,       EPERM,
					   ENETUNREACH,	 EHOSTUNREACH, ETIMEDOUT,
					   ECONNRESET,	 ENETDOWN,     EADDRNOTAVAIL };
	struct ctl_options *o = options;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(errnos); i++) {
		if (strcmp(value, strerrorname_np(errnos[i])) == 0) {
			o->error = errnos[i];
			return 0;
		}
	}
	return optable_refuse(error,
			      "'%s' is none of the errnos that a rule can refuse with, such "
			      "as EACCES, ECONNREFUSED or EHOSTUNREACH",
			      value);
}

/* Returns true if an option of `block` does not go with what it does, and refuses. */
static bool is_stray(const struct optable *of_command, bool given, const char *option,
		     unsigned int actions, const struct ctl_options *o, const char *with)
{
	return given && !(actions & BIT(o->block_action)) &&
	       optparse_usage_error(of_command, "%s goes with %s only", option, with) < 0;
}

int block_options_check(const struct optable *of_command, const struct ctl_options *o)
{
	const unsigned int add = BIT(CTL_BLOCK_ADD), apply = BIT(CTL_BLOCK_APPLY);

	if (is_stray(of_command, o->confirm_ms, "--confirm", apply, o, "--apply") ||
	    is_stray(of_command, o->for_ms, "--for", add, o, "CIDRs") ||
	    is_stray(of_command, o->has_comment, "--comment", add | apply, o,
		     "CIDRs and --apply") ||
	    is_stray(of_command, o->error, "--error", add | apply, o, "CIDRs and --apply") ||
	    is_stray(of_command, o->force, "--force", add | apply, o, "CIDRs and --apply") ||
	    is_stray(of_command, o->no_safety, "--no-safety", add | apply, o,
		     "CIDRs and --apply") ||
	    is_stray(of_command, o->watch, "--watch", BIT(CTL_BLOCK_STATS), o, "--stats"))
		return -EINVAL;
	if (o->n_operands && !((add | apply) & BIT(o->block_action)))
		return optparse_usage_error(of_command, "unexpected argument '%s' with --%s",
					    o->operands[0], block_actions[o->block_action]);
	if (!o->n_operands && o->block_action == CTL_BLOCK_ADD)
		return optparse_usage_error(of_command, "CIDR is missing");
	return 0;
}
