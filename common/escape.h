/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Makes untrusted text (the name of a process, the path of a cgroup) safe for a terminal and a log.
 */
#ifndef TPROXY_ESCAPE_H
#define TPROXY_ESCAPE_H

#include <stddef.h>

/* Size of a buffer that is enough for n bytes of text. */
#define ESCAPE_LEN(n) ((n)*4 + 1)

/*
 * Writes the text to buf and ends it with a NUL. Reads at most len bytes of text and stops at its
 * first NUL. Each byte that is not printable ASCII becomes \xNN. What does not fit into size bytes
 * is cut, never within a \xNN. size must be at least 1. Returns buf.
 */
char *escape_text(const char *text, size_t len, char *buf, size_t size);

#endif
