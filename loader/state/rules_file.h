/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A file of rules that is about to be loaded. */
#ifndef TPROXY_STATE_RULES_FILE_H
#define TPROXY_STATE_RULES_FILE_H

#include <stddef.h>

struct cgroup;
struct rules_compiled;

/*
 * As rules_compile_file(), with all names looked up, for these scopes. Even after success
 * compiled->messages may have notes.
 */
int rules_file_compile(const char *path, const struct cgroup *scopes, size_t n_scopes,
		       struct rules_compiled *ret_compiled);
/* The same, for the scopes of the last load. */
int rules_file_compile_loaded(const char *path, const char *pin_dir,
			      struct rules_compiled *ret_compiled);

#endif
