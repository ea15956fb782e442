/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opening what is pinned, for commands that need it: errors are logged here, in one wording.
 * bpffs.h opens without logging.
 */
#ifndef TPROXY_STATE_MAPS_H
#define TPROXY_STATE_MAPS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "objects.h"
#include "quote.h"

/* Opens a map, see bpffs_open_map(). Returns 0 or its -errno, logged. */
int maps_open(const char *pin_dir, enum pinned_map_id id, bool writable, int *ret_fd);

/*
 * Writes why a pin of that name cannot be read, and what to do about it. @r is -errno, of the pin
 * or of an entry that it must have. Returns buf.
 */
#define MAPS_ERROR_LEN (256 + SHELL_QUOTE_LEN(PATH_MAX))
char *maps_strerror(const char *pin_dir, const char *name, int r, char buf[MAPS_ERROR_LEN]);

/* Logs that a map cannot be read, and what to do about it. Returns @r. */
int maps_log_error(const char *pin_dir, enum pinned_map_id id, int r);

/*
 * Checks that pins of our ABI version are loaded. Returns 0 and sets *ret_version, or -ENOENT, not
 * logged, if nothing is loaded. Returns -ENODATA if other pins of a load exist without map_policy,
 * -EAGAIN if the loader died, -EPROTO for another ABI version, or another -errno; these are logged.
 */
int maps_check_abi(const char *pin_dir, uint32_t *ret_version);

/* The message of a command that needs loaded pins. The argument is the pin directory. */
#define MAPS_NOT_LOADED "nothing is loaded in '%s'; see 'tproxy-load --help'"

/* As maps_check_abi(), but logs MAPS_NOT_LOADED if nothing is loaded. */
int maps_check_loaded(const char *pin_dir);

#endif
