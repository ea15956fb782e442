/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The language of rule files, tproxy-rules(5). Parses text alone: nothing is opened or looked up.
 */
#ifndef TPROXY_RULES_GRAMMAR_H
#define TPROXY_RULES_GRAMMAR_H

struct parsed;
struct source;

/*
 * Parses a rule file. Errors are added to the messages of @source, at most one for each statement.
 * Returns 0, -EINVAL if there were errors, or -ENOMEM. The caller calls parsed_finish(), after a
 * failure too.
 */
int grammar_parse(const struct source *source, struct parsed *ret_parsed);

#endif
