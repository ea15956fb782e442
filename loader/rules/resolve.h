/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Looks up what a parsed rule file names: list files, host names, users, groups, cgroups. A missing
 * file or name is an error with its place.
 */
#ifndef TPROXY_RULES_RESOLVE_H
#define TPROXY_RULES_RESOLVE_H

struct parsed;
struct rules_options;
struct source;

/*
 * Looks up all names. Errors and notes are added to the messages of @source. Returns 0, -EINVAL if
 * there were errors, or -ENOMEM.
 */
int resolve_names(const struct source *source, const struct rules_options *options,
		  struct parsed *parsed);

#endif
