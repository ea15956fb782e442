/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The links of hooks that are attached only while something needs them (hook->need): those of UDP
 * while a rule in force is about UDP, those of the block list while it has entries or traffic is
 * counted. rules_store.c and block/store.c attach them before what needs them is in force, and
 * detach them when nothing needs them any more. A load of the programs attaches them with all
 * others, see load/links.c.
 *
 * Functions return 0 or -errno, logged. The pins must be locked, except for on_demand_needs().
 */
#ifndef TPROXY_STATE_ON_DEMAND_H
#define TPROXY_STATE_ON_DEMAND_H

#include "objects.h"

struct pins;

/* Bits of enum hook_need. */
#define ON_DEMAND_BIT(need) (1U << (need))

/* Returns the needs that exist now. HOOK_NEED_NONE always does. What cannot be read is no need. */
unsigned int on_demand_needs(const char *pin_dir);

/* Returns true if a hook is to be attached under these needs. */
static inline bool on_demand_wants(unsigned int needs, const struct hook *hook)
{
	return needs & ON_DEMAND_BIT(hook->need);
}

/*
 * Attaches the pinned programs at the cgroups of map_targets. A cgroup that does not exist now is
 * left out: the load that attaches there later attaches them too. After a failure call
 * on_demand_detach(), unless the need existed before.
 */
int on_demand_attach(const struct pins *pins, enum hook_need need);

/* Detaches them from all cgroups. */
int on_demand_detach(const struct pins *pins, enum hook_need need);

#endif
