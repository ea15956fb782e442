/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The links of the hooks of UDP (HOOK_NEED_UDP), which exist only while a rule in force is about
 * UDP. rules_store.c attaches them before such rules are in force, and detaches them after the last
 * such rule is gone. A load of the programs attaches them with all others, see load/links.c.
 *
 * Functions return 0 or -errno, logged. The pins must be locked, except for udp_links_wanted().
 */
#ifndef TPROXY_STATE_UDP_LINKS_H
#define TPROXY_STATE_UDP_LINKS_H

#include <stdbool.h>

struct pins;

/* Returns true if a rule in force is about UDP, and false if the rules cannot be read. */
bool udp_links_wanted(const char *pin_dir);

/*
 * Attaches the pinned programs at the scopes of map_targets. A scope that does not exist now is
 * left out: the load that attaches there later attaches them too. After a failure call
 * udp_links_detach(), unless a rule in force is about UDP.
 */
int udp_links_attach(const struct pins *pins);

/* Detaches them from all cgroups. */
int udp_links_detach(const struct pins *pins);

#endif
