// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See rules_file.h. */
#include "rules_file.h"

#include "rules/rules.h"

int rules_file_compile(const char *path, struct rules_compiled *ret_compiled)
{
	const struct rules_options options = {};

	return rules_compile_file(path, &options, ret_compiled);
}
