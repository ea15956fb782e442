/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rings through which the kernel half tells relays of pending connections: the maps in the
 * slots of map_rings, and their pins, which relays open.
 */
#ifndef TPROXY_LOAD_RINGS_H
#define TPROXY_LOAD_RINGS_H

#include <sys/types.h>

struct created;
struct pins;

/*
 * Makes the rings that are missing in map_rings, which is @rings_fd, and pins each. A ring that is
 * there stays, with what relays have not read yet. A pin of a ring that is in no slot is replaced.
 * New pins are noted in *created. Returns 0 or -errno, logged.
 */
int rings_make(const struct pins *pins, int rings_fd, struct created *created);

/* Gives the pins to the group @gid. Returns 0 or -errno, logged. */
int rings_set_access(const struct pins *pins, gid_t gid);

#endif
