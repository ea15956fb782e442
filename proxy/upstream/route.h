/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The route of a connection: direct, to the original destination, or through an upstream.
 * Everything that influences it is in struct route_query. route_of() is pure: it makes no system
 * call, logs nothing, and gives the same route for the same query.
 *
 * The order of decision: a line of [names], if a name is known and the line matches (the caller
 * asks names.h and fills route_query::by_name); the rule's `via`; default-upstream; direct.
 */
#ifndef TPROXY_ROUTE_H
#define TPROXY_ROUTE_H

#include <stdint.h>

struct upstream;
struct upstreams;

/* What is known of a connection when its route is chosen. */
struct route_query {
	const struct upstreams *set; /* NULL: no upstreams are configured */
	uint32_t rule;		     /* id of the upstream that the rule names; 0: none */
	struct upstream *by_name;    /* that a line of [names] chose, or NULL */
};

enum route_kind {
	ROUTE_DIRECT,
	ROUTE_UPSTREAM,
	ROUTE_UNKNOWN, /* the rule names an upstream that the set does not have */
};

struct route {
	enum route_kind kind;
	struct upstream *upstream; /* ROUTE_UPSTREAM */
};

/* Chooses the route. Any thread. */
void route_of(const struct route_query *query, struct route *ret_route);

#endif
