// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See route.h. */
#include "route.h"

#include <stddef.h>

void route_of(const struct route_query *query, struct route *ret_route)
{
	*ret_route = (struct route){ .handshake = NULL };
}
