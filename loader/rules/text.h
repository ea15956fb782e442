/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The text of a rule, which the tools show and by which a reload recognises the rule. */
#ifndef TPROXY_RULES_TEXT_H
#define TPROXY_RULES_TEXT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Returns the words of a statement with one blank between them, none before a comma, and without
 * the comment, in printable ASCII. The caller frees it. Returns NULL if memory is short.
 */
char *text_of_statement(const char *statement, size_t len);

/* Returns a hash of a text, which is not 0. The same in all versions. */
uint64_t text_hash(const char *text);

#endif
