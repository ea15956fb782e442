/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pins of the maps in the slots of a map of maps. The slot is the truth: the pin follows it, and
 * spares the readers CAP_SYS_ADMIN. A new map is pinned under a second name, put into its slot, and
 * the pin is renamed. The pins must be locked, except for slot_pins_open_read().
 *
 * Functions return 0 or -errno.
 */
#ifndef TPROXY_STATE_SLOT_PINS_H
#define TPROXY_STATE_SLOT_PINS_H

#include <stdint.h>

#include "objects.h"

struct pins;

/* Opens a pin for writing. Not logged. */
int slot_pins_open_name(const struct pins *pins, const char *name, int *ret_fd);

/* Pins a map under a further name, with the owner and the mode of @id. Errors are logged. */
int slot_pins_pin_as(const struct pins *pins, const char *name, enum pinned_map_id id, int fd);

/* Pins a map under the second name of @id, renames it to the first, or removes it. Logged. */
int slot_pins_stage(const struct pins *pins, enum pinned_map_id id, int fd);
int slot_pins_rename(const struct pins *pins, enum pinned_map_id id);
void slot_pins_remove_staged(const struct pins *pins, enum pinned_map_id id);

/*
 * Opens the map in a slot, whose pin is @id. A process that died between the update of the slot and
 * the renaming has left the second name; without it the map is found by its id.
 * slot_pins_open_used() then completes the pin. Failures of the kernel are not logged.
 */
int slot_pins_open_used(const struct pins *pins, int outer_fd, uint32_t slot, enum pinned_map_id id,
			int *ret_fd);
int slot_pins_open_read(const struct pins *pins, int outer_fd, uint32_t slot, enum pinned_map_id id,
			int *ret_fd);

#endif
