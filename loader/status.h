/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef TPROXY_LOADER_STATUS_H
#define TPROXY_LOADER_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "tproxy_abi.h"

struct json_object;

/*
 * Prints what is loaded, attached, registered and counted, as text or as one JSON object. 0;
 * -ENOENT: nothing is loaded, which is said too; other -errno: logged.
 */
int status(const char *pin_dir, bool json);

/* Is something of our version loaded? 0, -ENOENT (nothing is, not logged), other -errno: logged. */
int status_check_abi(const char *pin_dir, uint32_t *ret_version);

/*
 * What status() prints. The caller puts *ret_root. 0 also if nothing is loaded, which its member
 * "loaded" tells; -errno: logged.
 */
int status_read(const char *pin_dir, struct json_object **ret_root);

/* For a command that needs it; the pin directory. */
#define STATUS_NOT_LOADED "nothing is loaded in '%s'; see 'tproxy-load --help'"

/* If nothing is loaded, says so and returns true. */
bool status_print_not_loaded(struct json_object *root, bool json);

/* As text, all but the counters. */
void status_print_state(struct json_object *root);

/* The counters, of all CPUs together. 0, or -errno, not logged. */
int status_read_counters(const char *pin_dir, uint64_t ret_counts[_TPROXY_STAT_MAX]);

/* The name of a counter (enum tproxy_stat), NULL behind the last one. */
const char *status_counter_name(unsigned int stat);

#endif
