/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses that no server can have. connect(2) takes some of them: 0.0.0.0 and :: lead to this
 * host, whose users could then take the place of a proxy.
 */
#ifndef TPROXY_SERVER_ADDRESS_H
#define TPROXY_SERVER_ADDRESS_H

#include "parse.h"

/* Returns why no server can have the address: "the unspecified address"; or NULL. */
const char *why_no_server(const union sockaddr_any *addr);

#endif
