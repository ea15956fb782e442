/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is this process in the host's own namespaces? What the maps hold, PIDs and levels of cgroups, is
 * counted in those, so in others it means something else.
 */
#ifndef TPROXY_LOADER_NAMESPACES_H
#define TPROXY_LOADER_NAMESPACES_H

#include <stdbool.h>

enum namespaces_kind {
	NAMESPACES_CGROUP,
	NAMESPACES_PID,
	NAMESPACES_USER,
	_NAMESPACES_KIND_MAX,
};

/* False too if /proc cannot tell. */
bool namespaces_is_initial(enum namespaces_kind kind);

#endif
