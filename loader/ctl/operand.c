// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The operands of tproxyctl's commands: destinations of `explain`, the verb and the file of
 * `rules`, and the command line of `run`.
 */
#include "operand.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "optable.h"
#include "parse.h"

static const struct {
	const char *name, *description;
} rules_verbs[_CTL_RULES_MAX] = {
	[CTL_RULES_CHECK] = { "check", "report the errors of a file" },
	[CTL_RULES_LOAD] = { "load", "put the rules of a file into force" },
	[CTL_RULES_UNLOAD] = { "unload", "remove all rules" },
	[CTL_RULES_CONFIRM] = { "confirm", "keep rules that were loaded with --confirm" },
	[CTL_RULES_REVERT] = { "revert", "take back rules that were loaded with --confirm" },
	[CTL_RULES_SHOW] = { "show", "the rules in force" },
	[CTL_RULES_STATS] = { "stats", "what each rule has decided, and when" },
};

int operand_add_destination(void *options, const char *value, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;

	if (o->n_destinations == CTL_DESTINATIONS_MAX)
		return optable_refuse(error, "'%s' is one more than %d destinations", value,
				      CTL_DESTINATIONS_MAX);
	if (parse_endpoint(value, &o->destinations[o->n_destinations]) < 0)
		return optable_refuse(error,
				      "'%s' is not ADDR:PORT, such as 192.0.2.1:443 or "
				      "[2001:db8::1]:443",
				      value);
	o->n_destinations++;
	return 0;
}

bool operand_takes_file(enum ctl_rules_verb verb)
{
	return verb == CTL_RULES_CHECK || verb == CTL_RULES_LOAD;
}

/* The first operand is the verb, the second one the file. */
int operand_add_rules(void *options, const char *value, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;
	enum ctl_rules_verb verb;

	if (o->verb != CTL_RULES_NONE && operand_takes_file(o->verb) && !*o->file)
		return optable_path(value, o->file, error);
	if (o->verb != CTL_RULES_NONE)
		return optable_refuse(error, "unexpected argument '%s'", value);
	for (verb = CTL_RULES_NONE + 1; verb < _CTL_RULES_MAX; verb++) {
		if (strcmp(value, rules_verbs[verb].name) == 0)
			o->verb = verb;
	}
	if (o->verb == CTL_RULES_NONE)
		return optable_refuse(
			error,
			"'%s' is none of check, load, unload, confirm, revert, show and stats",
			value);
	return 0;
}

/* The first word of a command line. The other words follow it in argv, which ends with NULL. */
int operand_add_word(void *options, const char *value, char error[OPTABLE_ERROR_LEN])
{
	struct ctl_options *o = options;

	if (!*value && !o->n_words)
		return optable_refuse(error, "the command is empty");
	o->n_words++;
	return 0;
}

void operand_print_verbs(void)
{
	enum ctl_rules_verb verb;

	for (verb = CTL_RULES_NONE + 1; verb < _CTL_RULES_MAX; verb++)
		printf("%s\t\t%s\tverb\t\t\t\trules\t%s\n", rules_verbs[verb].name,
		       operand_takes_file(verb) ? "FILE" : "", rules_verbs[verb].description);
}
