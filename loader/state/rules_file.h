/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A file of rules that is about to be loaded. */
#ifndef TPROXY_STATE_RULES_FILE_H
#define TPROXY_STATE_RULES_FILE_H

struct rules_compiled;

/*
 * As rules_compile_file(), with all names looked up. Even after success compiled->messages may have
 * notes.
 */
int rules_file_compile(const char *path, struct rules_compiled *ret_compiled);

#endif
