/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The state of what is loaded, as both programs print it. */
#ifndef TPROXY_STATE_STATUS_H
#define TPROXY_STATE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct json_object;

/*
 * Prints what is loaded, attached, registered and counted, as text or as one JSON document. Returns
 * 0, -ENOENT if nothing is loaded, which is printed, or another -errno, logged.
 */
int status(const char *pin_dir, bool json);

/*
 * Checks that pins of our ABI version are loaded. Returns 0 and sets *ret_version, or -ENOENT, not
 * logged, if nothing is loaded. Returns -EAGAIN if the loader died, -EPROTO for another ABI
 * version, or another -errno; these are logged.
 */
int status_check_abi(const char *pin_dir, uint32_t *ret_version);

/*
 * Reads what status() prints. The caller frees *ret_root with fields_put(). Returns 0 also if
 * nothing is loaded: its member "loaded" is false then. Returns -errno, logged.
 */
int status_read(const char *pin_dir, struct json_object **ret_root);

/* The message of a command that needs loaded pins. The argument is the pin directory. */
#define STATUS_NOT_LOADED "nothing is loaded in '%s'; see 'tproxy-load --help'"

/* If nothing is loaded, prints that and returns true. */
bool status_print_not_loaded(struct json_object *root, bool json);

/* Prints all but the counters, as text. */
void status_print_state(struct json_object *root);

/* Reads the counters, each summed over all CPUs. Returns 0 or -errno, not logged. */
int status_read_counters(const char *pin_dir, uint64_t ret_counts[_TPROXY_STAT_MAX]);

/* Returns the name of counter @stat (enum tproxy_stat), or NULL beyond the last one. */
const char *status_counter_name(unsigned int stat);

#endif
