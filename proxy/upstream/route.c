// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* See route.h. */
#include "route.h"

#include <stddef.h>

#include "upstream.h"

static struct route through(struct upstream *upstream)
{
	if (upstream->conf.type == UPSTREAM_DIRECT &&
	    upstream->conf.proxy_header == PROXY_HEADER_NONE)
		return (struct route){ .kind = ROUTE_DIRECT };
	return (struct route){ .kind = ROUTE_UPSTREAM, .upstream = upstream };
}

void route_of(const struct route_query *query, struct route *ret_route)
{
	struct upstream *upstream = query->by_name;

	if (!upstream && query->set)
		upstream = upstreams_find(query->set, query->rule);
	if (upstream)
		*ret_route = through(upstream);
	else if (!query->rule || query->rule == upstream_id(UPSTREAM_NAME_DIRECT))
		*ret_route = (struct route){ .kind = ROUTE_DIRECT };
	else
		*ret_route = (struct route){ .kind = ROUTE_UNKNOWN };
}
