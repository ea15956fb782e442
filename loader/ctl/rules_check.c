// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxyctl rules check. See rules.h. */
#include <stdio.h>
#include <stdlib.h>

#include "options.h"
#include "rules.h"
#include "rules/rules.h"
#include "util.h"

int rules_check(const struct ctl_options *options)
{
	const struct rules_options how = { .no_resolve = options->no_resolve };
	struct rules_compiled compiled = {};
	int r;

	r = rules_compile_file(options->file, &how, &compiled);
	rules_messages_print(&compiled.messages, stderr);
	if (r == 0)
		printf("%zu rules in %u rows, %zu sets with %zu prefixes\n", compiled.n_rules,
		       compiled.rules.n_rows, compiled.n_sets, compiled.n_prefixes);
	rules_compiled_finish(&compiled);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
