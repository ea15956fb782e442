// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tproxy-load --follow. See rules_abandoned.h. */
#include "rules_abandoned.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "log.h"
#include "objects.h"
#include "pins.h"
#include "rules_store.h"
#include "wait_lock.h"

bool rules_are_abandoned(const char *pin_dir)
{
	const struct pins pins = { .path = pin_dir, .fd = -1 };
	char path[PATH_MAX];

	return pins_path(&pins, PINNED_PREVIOUS, path) == 0 && access(path, F_OK) == 0 &&
	       !wait_lock_is_held(pin_dir, WAIT_LOCK_RULES);
}

int rules_abandoned_take_back(const char *pin_dir, const struct inner_map_types *rules_types,
			      const struct inner_map_types *sets_types)
{
	struct rules_store store = RULES_STORE_NULL;
	struct pins pins = PINS_NULL;
	int r;

	r = pins_open(pin_dir, /* create= */ false, &pins);
	if (r == -ENOENT)
		return 0;
	/* A command that has just pinned them takes its lock before it releases the pins. */
	if (r == 0 && !wait_lock_is_held(pin_dir, WAIT_LOCK_RULES))
		r = rules_store_open(&pins, &store);
	store.rules_types = *rules_types;
	store.sets_types = *sets_types;
	if (r == 0 && store.held) {
		log_warning(
			"the rules in force were not confirmed, and the command that waited was killed: they are taken back");
		r = rules_store_restore(&store);
		r = r < 0 ? r : 1;
	}
	rules_store_close(&store);
	pins_close(&pins);
	return r;
}
