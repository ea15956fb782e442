/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a process still waits for the confirmation of rules or of a block list, and takes them
 * back otherwise. Each such process holds a lock on a pin: map_rules_previous for rules, map_block
 * for block lists. The kernel releases it when the process ends, so without a lock nobody will take
 * them back.
 */
#ifndef TPROXY_STATE_WAIT_LOCK_H
#define TPROXY_STATE_WAIT_LOCK_H

#include <stdbool.h>

/*
 * Takes the lock of a pin. Returns a descriptor, which keeps it, or -errno, not logged. Several
 * processes can hold it.
 */
int wait_lock_take(const char *pin_dir, const char *pin);

/*
 * Returns true if a process holds the lock, and if that is unknown, because the pin cannot be
 * opened.
 */
bool wait_lock_is_held(const char *pin_dir, const char *pin);

#endif
