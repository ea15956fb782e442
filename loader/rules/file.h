/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reads whole files. */
#ifndef TPROXY_RULES_FILE_H
#define TPROXY_RULES_FILE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Reads a file of at most max bytes, which may be a pipe if @may_wait: one without a writer keeps
 * the caller waiting. Returns 0, -EFBIG, -ESPIPE for a pipe, or another -errno. The caller frees
 * *ret_text.
 */
int file_read(const char *path, size_t max, bool may_wait, char **ret_text, size_t *ret_len);

/* Returns @path as seen from the directory of the file @from. The caller frees it. */
char *file_beside(const char *from, const char *path);

#endif
