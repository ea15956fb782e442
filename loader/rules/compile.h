/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Compiles a parsed rule file, whose names are looked up, to rules for the maps. Opens nothing. */
#ifndef TPROXY_RULES_COMPILE_H
#define TPROXY_RULES_COMPILE_H

struct parsed;
struct rules_compiled;
struct source;

/*
 * Fills in all but the messages of *compiled, which is zeroed, and takes the texts of @parsed.
 * Errors are added to the messages of @source. Returns 0, -EINVAL or -ENOMEM. The caller calls
 * rules_compiled_finish(), after a failure too.
 */
int compile_rules(const struct source *source, struct parsed *parsed,
		  struct rules_compiled *compiled);

#endif
