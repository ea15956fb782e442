/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a process still waits for the confirmation of rules or of a block list, and takes them
 * back otherwise. Each such process holds a lock on a pin. The kernel releases it when the process
 * ends, so without a lock nobody will take them back. The pins are those of maps that only root can
 * open: a member of the relay's group that held the lock would keep abandoned rules in force.
 */
#ifndef TPROXY_STATE_WAIT_LOCK_H
#define TPROXY_STATE_WAIT_LOCK_H

#include <stdbool.h>

/* The pins for rules and for block lists; follow_lock.h uses another one. */
#define WAIT_LOCK_RULES "map_shares"
#define WAIT_LOCK_BLOCK "map_block_texts"

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
