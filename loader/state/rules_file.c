// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load and tproxyctl. See rules_file.h. */
#include "rules_file.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>

#include "log.h"
#include "pins.h"
#include "rules/rules.h"
#include "tproxy_abi.h"

int rules_file_compile(const char *path, struct rules_compiled *ret_compiled)
{
	const struct rules_options options = {};

	return rules_compile_file(path, &options, ret_compiled);
}

int rules_file_check_enforced(const struct pins *pins, const struct rules_compiled *compiled)
{
	const struct tproxy_rules *rules = &compiled->rules;
	size_t i;

	if (!compiled->has_udp)
		return 0;
	for (i = 0; i < rules->n_rows && rules->rows[i].protocol != IPPROTO_UDP; i++)
		;
	log_err("line %u: rules about UDP cannot be enforced: no program that sees UDP is attached in '%s'",
		i < rules->n_rows ? compiled->list[rules->rows[i].group].line : 0, pins->path);
	return -EOPNOTSUPP;
}
