/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Checks for the initial namespaces of the host. The maps hold PIDs and cgroup levels of these
 * namespaces. In another one the same numbers mean something else.
 */
#ifndef TPROXY_HOST_NAMESPACES_H
#define TPROXY_HOST_NAMESPACES_H

#include <stdbool.h>

enum namespaces_kind {
	NAMESPACES_CGROUP,
	NAMESPACES_PID,
	NAMESPACES_USER,
	_NAMESPACES_KIND_MAX,
};

/*
 * Returns true if this process is in the initial namespace of that kind, and false also if /proc
 * does not show it.
 */
bool namespaces_is_initial(enum namespaces_kind kind);

#endif
