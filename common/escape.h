/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Text that a stranger chose (a process its name, a cgroup its path), made fit for a terminal. */
#ifndef TPROXY_ESCAPE_H
#define TPROXY_ESCAPE_H

#include <stddef.h>

/* What is enough for n bytes of text. */
#define ESCAPE_LEN(n) ((n)*4 + 1)

/*
 * Writes the text, at most len bytes of it and none after its first NUL, with \xNN in place of each
 * byte that is not printable ASCII. What does not fit into buf is cut, between characters. Returns
 * buf.
 */
char *escape_text(const char *text, size_t len, char *buf, size_t size);

#endif
