/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The route of a connection: where the relay connects for it, and which handshake it makes there
 * before it relays. Everything that influences this is in struct route_query. route_of() is pure:
 * it makes no system call, logs nothing, and gives the same route for the same query.
 *
 * There is one kind of route: direct, to the original destination, without a handshake. A route
 * through a proxy has the handshake of its protocol (handshake.h) and the proxy's address. Without
 * a handshake the proxy would not learn the destination.
 */
#ifndef TPROXY_ROUTE_H
#define TPROXY_ROUTE_H

#include "parse.h"

struct handshake_ops;
struct tproxy_conn;

/* What is known of a connection when its route is chosen. */
struct route_query {
	const union sockaddr_any *dst;	/* original destination */
	const struct tproxy_conn *conn; /* the kernel half's record: who connects */
};

struct route {
	const struct handshake_ops *handshake; /* NULL: the route is direct */
	union sockaddr_any proxy;	       /* where to connect, unless the route is direct */
};

/* Chooses the route. Any thread. */
void route_of(const struct route_query *query, struct route *ret_route);

#endif
