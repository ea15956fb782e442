/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rules that wait for a confirmation while no process waits with them, see wait_lock.h. */
#ifndef TPROXY_STATE_RULES_ABANDONED_H
#define TPROXY_STATE_RULES_ABANDONED_H

#include <stdbool.h>

struct inner_map_types;

/* Returns true if there are such rules. */
bool rules_are_abandoned(const char *pin_dir);

/*
 * Takes such rules back. The types are those of rules_store.h, which spare CAP_SYS_ADMIN. Returns 1
 * if it did, 0 if there was nothing to do, or -errno, logged.
 */
int rules_abandoned_take_back(const char *pin_dir, const struct inner_map_types *rules_types,
			      const struct inner_map_types *sets_types);

#endif
