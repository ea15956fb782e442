/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Is there IPv6 to be reached from here? */
#ifndef TPROXY_IPV6_H
#define TPROXY_IPV6_H

#include <stdbool.h>

/*
 * Has our network namespace a route to other than loopback, link-local and multicast addresses? If
 * not, IPv6 connections are better left alone: connect() fails at once, and programs go on with
 * IPv4 (RFC 8305) as they would without us. If this cannot be found out the answer is otherwise.
 */
bool ipv6_is_routed(bool otherwise);

/* Can ::1 be bound to? Not with IPv6 disabled, or while lo is down. */
bool ipv6_is_present(void);

#endif
