/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The text by which a rule is shown, and recognised after a reload. */
#ifndef TPROXY_RULES_TEXT_H
#define TPROXY_RULES_TEXT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Returns the words of a statement with one blank between them, none before a comma, and without
 * the comment, in printable ASCII. The caller frees it. NULL without memory.
 */
char *text_of_statement(const char *statement, size_t len);

/* Returns a hash of a text, which is not 0. The same in all versions. */
uint64_t text_hash(const char *text);

#endif
