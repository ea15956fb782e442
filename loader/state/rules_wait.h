/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a process still waits for the confirmation of the rules in force, and takes them back
 * otherwise. Each such process holds a lock on the pin of the previous rules. The kernel releases
 * it when the process ends, so without a lock nobody will take the rules back.
 */
#ifndef TPROXY_STATE_RULES_WAIT_H
#define TPROXY_STATE_RULES_WAIT_H

#include <stdbool.h>

/*
 * Takes the lock, after rules_store_hold(). Returns a descriptor, which keeps it, or -errno, not
 * logged. Several processes can hold it.
 */
int rules_wait_begin(const char *pin_dir);

/*
 * Returns true if a process holds the lock, and if that is unknown, because the pin cannot be
 * opened.
 */
bool rules_wait_is_attended(const char *pin_dir);

/* Returns true if rules wait for a confirmation, and no process will take them back. */
bool rules_wait_is_abandoned(const char *pin_dir);

#endif
