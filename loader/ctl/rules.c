// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl rules: the command line. The work of each verb is in rules_VERB.c. */
#include "rules.h"

#include <stdlib.h>

#include "commands.h"
#include "options.h"

static const struct ctl_usage usage = {
	.command = CTL_RULES,
	.synopsis = "check FILE [--no-resolve] [-v] [--json]\n"
		    "       tproxyctl rules load FILE [--confirm DURATION] [--json] [-p DIR]\n"
		    "       tproxyctl rules unload|confirm|revert [-p DIR]\n"
		    "       tproxyctl rules show|stats [--json] [-p DIR]",
	.about =
		"Checks a file of rules (tproxy-rules(5)), puts its rules into force, and shows\n"
		"those in force. Rules are replaced as a whole: each connection is decided by the\n"
		"rules before or by the new ones. The counts of a rule survive a load that has the\n"
		"same rule.\n",
};

int ctl_rules(int argc, char **argv)
{
	static int (*const verbs[_CTL_RULES_MAX])(const struct ctl_options *options) = {
		[CTL_RULES_CHECK] = rules_check,   [CTL_RULES_LOAD] = rules_load,
		[CTL_RULES_UNLOAD] = rules_unload, [CTL_RULES_CONFIRM] = rules_confirm,
		[CTL_RULES_REVERT] = rules_revert, [CTL_RULES_SHOW] = rules_show,
		[CTL_RULES_STATS] = rules_show,
	};
	struct ctl_options options;
	int r;

	r = ctl_options_parse(argc, argv, &usage, &options);
	if (r)
		return r < 0 ? 2 : EXIT_SUCCESS;
	return verbs[options.verb](&options);
}
