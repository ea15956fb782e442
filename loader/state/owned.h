/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a pin is tproxy's. The loader replaces and removes no other pin. */
#ifndef TPROXY_STATE_OWNED_H
#define TPROXY_STATE_OWNED_H

#include <stdbool.h>

struct pins;

/*
 * Returns 1 if this version pins a map, program or link by that name, and the object there is
 * tproxy's by kind and kernel name, otherwise 0. If the object may not be opened, the name alone
 * decides; root may open it. Returns -errno, not logged, if this process or the host lacks
 * descriptors or memory to open it.
 */
int owned_by_tproxy(const struct pins *pins, const char *name);

/*
 * Returns true if there is no BPF object at that name, but a directory or a file of another file
 * system. The kernel returns EACCES for these, to root too.
 */
bool owned_is_other_file(const struct pins *pins, const char *name);

#endif
