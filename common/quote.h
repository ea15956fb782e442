/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Quotes names in commands that the programs propose, because users paste them into a shell. */
#ifndef TPROXY_QUOTE_H
#define TPROXY_QUOTE_H

#include <stddef.h>

/* Size of a buffer that is enough for n bytes of text. */
#define SHELL_QUOTE_LEN(n) ((n)*4 + 4)

/*
 * Writes the text to buf as one shell word, always quoted and in printable ASCII only. The form is
 * 'TEXT', or $'TEXT' with \NNN for each byte that is not printable (bash, zsh, ksh). A shell
 * without $'' still reads one word, with another text. A word is never cut: one that does not fit
 * into size bytes becomes ''. Returns buf.
 */
char *shell_quote(const char *text, char *buf, size_t size);

#endif
