/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who may do what with a pinned map: tproxy-load sets it, tproxyctl doctor looks whether it holds.
 */
#ifndef TPROXY_LOADER_ACCESS_H
#define TPROXY_LOADER_ACCESS_H

#include <stddef.h>
#include <sys/types.h>

struct map_access {
	const char *name;
	mode_t mode; /* owner root, group that of relays */
};

extern const struct map_access map_access[];
extern const size_t n_map_access;

#endif
