/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Names in commands that we propose: somebody will paste them into a shell. */
#ifndef TPROXY_QUOTE_H
#define TPROXY_QUOTE_H

#include <stddef.h>

/* What is enough for n bytes of text. */
#define SHELL_QUOTE_LEN(n) ((n)*4 + 4)

/*
 * Writes the text as one word of a shell, always in quotes and in printable ASCII only: 'TEXT', or
 * $'TEXT' with \NNN in place of bytes that are not printable, which takes bash, zsh or ksh. A shell
 * that does not know that form still takes it for one word, of another text. Does not cut: what
 * does not fit into buf becomes ''. Returns buf.
 */
char *shell_quote(const char *text, char *buf, size_t size);

#endif
