/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether IPv6 is usable in our network namespace. Any thread. */
#ifndef TPROXY_IPV6_H
#define TPROXY_IPV6_H

#include <stdbool.h>

/*
 * True if our network namespace has a route to IPv6 addresses other than loopback, link-local and
 * multicast. Without one, IPv6 connections should not be redirected: connect() then fails
 * immediately, and programs fall back to IPv4 (RFC 8305). Returns otherwise if the routes cannot be
 * read.
 */
bool ipv6_is_routed(bool otherwise);

/* True if ::1 can be bound. False with IPv6 disabled, or while lo is down. */
bool ipv6_is_present(void);

#endif
