/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The file of `tproxyctl run --write-rules`. */
#ifndef TPROXY_CTL_RUN_FILE_H
#define TPROXY_CTL_RUN_FILE_H

#include <stdio.h>

/* Checks that the file can be written, and changes nothing. Returns 0 or -errno, logged. */
int run_file_check(const char *path);

/*
 * Writes what @print prints into the file. The file has the old or the new contents, unless a new
 * file cannot take its place. @print may be called twice. Returns 0 or -errno, logged.
 */
int run_file_write(const char *path, void (*print)(FILE *f, const void *data), const void *data);

#endif
