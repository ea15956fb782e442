/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The state of what is loaded, as both programs print it. */
#ifndef TPROXY_STATE_STATUS_H
#define TPROXY_STATE_STATUS_H

#include <stdbool.h>

struct json_object;

/*
 * Prints what is loaded, attached, registered and counted, as text or as one JSON document. Returns
 * 0, -ENOENT if nothing is loaded, which is printed, or another -errno, logged.
 */
int status(const char *pin_dir, bool json);

/*
 * Reads what status() prints. The caller frees *ret_root with json_put(). Returns 0 also if
 * nothing is loaded: its member "loaded" is false then. Returns -errno, logged.
 */
int status_read(const char *pin_dir, struct json_object **ret_root);

/* If nothing is loaded, prints that and returns true. */
bool status_print_not_loaded(struct json_object *root, bool json);

/* Prints all but the counters, as text. @pin_dir is as in status_read(). */
void status_print_state(struct json_object *root, const char *pin_dir);

#endif
